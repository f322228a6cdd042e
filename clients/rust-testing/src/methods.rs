//! The methods of the service, and the resource names in their requests, by the descriptors of the wire.

use std::{collections::HashMap, sync::LazyLock};

use bytes::Buf as _;
use prost::{Message as _, encoding::decode_varint};
use prost_types::{DescriptorProto, FileDescriptorSet};

/// The fields that name a resource; the first that a request has is what it is about.
const NAMES: [&str; 6] = [
    "name",
    "source_name",
    "destination_name",
    "parent",
    "environment",
    "names",
];

/// Its requests are looked at one by one.
pub const CRYPT: &str = "Crypt";

pub struct Method {
    pub name: &'static str,
    /// Numbers of the fields that name a resource, in the order of `NAMES`.
    fields: Vec<u32>,
}

static METHODS: LazyLock<HashMap<String, Method>> = LazyLock::new(read);

/// `path`: `/keyreeve.v1.CryptoService/Encrypt`.
pub fn of_path(path: &str) -> Option<&'static Method> {
    METHODS.get(path)
}

/// `name`: `Encrypt`.
pub fn of_name(name: &str) -> Option<&'static Method> {
    METHODS.values().find(|method| method.name == name)
}

impl Method {
    /// The resource names in a request of this method, what it is about first. Of one that cannot be read, none.
    pub fn names_in(&self, request: &[u8]) -> Vec<String> {
        let texts = texts(request).unwrap_or_default();
        let mut names = Vec::new();
        for field in &self.fields {
            let of_field = texts.iter().filter(|(number, _)| number == field);
            names.extend(of_field.map(|(_, text)| text.clone()));
        }
        names
    }
}

fn read() -> HashMap<String, Method> {
    let files = FileDescriptorSet::decode(keyreeve_proto::DESCRIPTOR_SET)
        .unwrap_or_default()
        .file;
    let messages: HashMap<&str, &DescriptorProto> = files
        .iter()
        .flat_map(|file| &file.message_type)
        .map(|message| (message.name(), message))
        .collect();
    let mut methods = HashMap::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                let input = method.input_type().rsplit('.').next().unwrap_or_default();
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                methods.insert(
                    path,
                    Method {
                        // Once in a process.
                        name: method.name().to_owned().leak(),
                        fields: messages
                            .get(input)
                            .map(|message| name_fields(message))
                            .unwrap_or_default(),
                    },
                );
            }
        }
    }
    methods
}

fn name_fields(message: &DescriptorProto) -> Vec<u32> {
    let number = |name: &&str| {
        message
            .field
            .iter()
            .find(|field| field.name() == *name)
            .map(|field| field.number())
    };
    NAMES
        .iter()
        .filter_map(number)
        .filter_map(|number| u32::try_from(number).ok())
        .collect()
}

/// The fields of a message that are text, with their numbers: those that are length-delimited and UTF-8. `None`: it cannot be read.
fn texts(mut message: &[u8]) -> Option<Vec<(u32, String)>> {
    let mut found = Vec::new();
    while message.has_remaining() {
        let key = decode_varint(&mut message).ok()?;
        let number = u32::try_from(key >> 3).ok()?;
        let skipped = match key & 7 {
            0 => {
                decode_varint(&mut message).ok()?;
                0
            }
            1 => 8,
            2 => {
                let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
                let text = message.get(..length)?;
                if let Ok(text) = std::str::from_utf8(text) {
                    found.push((number, text.to_owned()));
                }
                length
            }
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use keyreeve_proto::v1;

    use super::*;

    fn names(method: &str, request: &impl prost::Message) -> Vec<String> {
        of_name(method).unwrap().names_in(&request.encode_to_vec())
    }

    #[test]
    fn every_method_is_known_by_its_path() {
        for (service, name) in [
            ("Crypto", "Encrypt"),
            ("Key", "CreateKey"),
            ("Event", "Watch"),
            ("System", "WhoAmI"),
        ] {
            assert_eq!(
                of_path(&format!("/keyreeve.v1.{service}Service/{name}")).unwrap().name,
                name
            );
        }
        assert_eq!(of_path("/keyreeve.v1.CryptoService/Crypt").unwrap().name, CRYPT);
        assert!(of_path("/keyreeve.v1.CryptoService/Sign").is_none() && of_name("Sign").is_none());
    }

    #[test]
    fn what_a_request_is_about_comes_first() {
        let request = v1::EncryptRequest {
            name: "envs/dev/teams/shop/keys/orders".into(),
            plaintext: "envs/no/name".into(),
            ..Default::default()
        };
        assert_eq!(names("Encrypt", &request), ["envs/dev/teams/shop/keys/orders"]);
        let request = v1::ReEncryptRequest {
            source_name: "from".into(),
            destination_name: "to".into(),
            ..Default::default()
        };
        assert_eq!(names("ReEncrypt", &request), ["from", "to"]);
        let request = v1::WatchRequest {
            names: vec!["one".into(), "two".into()],
            ..Default::default()
        };
        assert_eq!(names("Watch", &request), ["one", "two"]);
        assert!(names("WhoAmI", &v1::WhoAmIRequest::default()).is_empty());
    }

    #[test]
    fn what_cannot_be_read_names_nothing() {
        let encrypt = of_name("Encrypt").unwrap();
        for bytes in [&[0x0a, 5, b'x'][..], &[0x0a], &[0x0f, 1], &[0xff; 12]] {
            assert!(encrypt.names_in(bytes).is_empty());
        }
    }
}
