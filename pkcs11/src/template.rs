//! Attribute templates: built in order, MODIFIABLE always last, nested templates and mechanism lists included.
//!
//! `cryptoki` 0.12 has no UNWRAP_TEMPLATE, hence this builder. The templates themselves are in `presets.rs`.

use crate::mechanism::Mechanism;
use cryptoki_sys::{CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_BBOOL, CK_ULONG};
use std::ffi::c_void;
use std::marker::PhantomData;
use zeroize::Zeroizing;

/// A `CK_ATTRIBUTE_TYPE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attribute(pub CK_ATTRIBUTE_TYPE);

macro_rules! attributes {
    ($($name:ident = $value:ident),* $(,)?) => {
        impl Attribute {
            $(pub const $name: Attribute = Attribute(cryptoki_sys::$value);)*

            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $(cryptoki_sys::$value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

attributes! {
    CLASS = CKA_CLASS, TOKEN = CKA_TOKEN, PRIVATE = CKA_PRIVATE, LABEL = CKA_LABEL, ID = CKA_ID,
    KEY_TYPE = CKA_KEY_TYPE, VALUE = CKA_VALUE, VALUE_LEN = CKA_VALUE_LEN, TRUSTED = CKA_TRUSTED,
    SENSITIVE = CKA_SENSITIVE, EXTRACTABLE = CKA_EXTRACTABLE, LOCAL = CKA_LOCAL,
    ALWAYS_SENSITIVE = CKA_ALWAYS_SENSITIVE, NEVER_EXTRACTABLE = CKA_NEVER_EXTRACTABLE,
    ENCRYPT = CKA_ENCRYPT, DECRYPT = CKA_DECRYPT, SIGN = CKA_SIGN, VERIFY = CKA_VERIFY,
    SIGN_RECOVER = CKA_SIGN_RECOVER, VERIFY_RECOVER = CKA_VERIFY_RECOVER,
    WRAP = CKA_WRAP, UNWRAP = CKA_UNWRAP, DERIVE = CKA_DERIVE, WRAP_WITH_TRUSTED = CKA_WRAP_WITH_TRUSTED,
    COPYABLE = CKA_COPYABLE, MODIFIABLE = CKA_MODIFIABLE, DESTROYABLE = CKA_DESTROYABLE,
    EC_PARAMS = CKA_EC_PARAMS, EC_POINT = CKA_EC_POINT,
    MODULUS = CKA_MODULUS, MODULUS_BITS = CKA_MODULUS_BITS, PUBLIC_EXPONENT = CKA_PUBLIC_EXPONENT,
    ALLOWED_MECHANISMS = CKA_ALLOWED_MECHANISMS, UNWRAP_TEMPLATE = CKA_UNWRAP_TEMPLATE,
}

/// `CKO_*` classes in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectClass {
    SecretKey,
    PrivateKey,
    PublicKey,
}

impl ObjectClass {
    fn number(self) -> CK_ULONG {
        match self {
            ObjectClass::SecretKey => cryptoki_sys::CKO_SECRET_KEY,
            ObjectClass::PrivateKey => cryptoki_sys::CKO_PRIVATE_KEY,
            ObjectClass::PublicKey => cryptoki_sys::CKO_PUBLIC_KEY,
        }
    }
}

/// `CKK_*` key types in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    GenericSecret,
    Aes,
    Ec,
    EcEdwards,
    Rsa,
}

impl KeyType {
    fn number(self) -> CK_ULONG {
        match self {
            KeyType::GenericSecret => cryptoki_sys::CKK_GENERIC_SECRET,
            KeyType::Aes => cryptoki_sys::CKK_AES,
            KeyType::Ec => cryptoki_sys::CKK_EC,
            KeyType::EcEdwards => cryptoki_sys::CKK_EC_EDWARDS,
            KeyType::Rsa => cryptoki_sys::CKK_RSA,
        }
    }
}

/// A template under construction. Values are wiped on drop: one of them may be a key that a known-answer test imports.
#[derive(Default)]
pub struct Template {
    attributes: Vec<(Attribute, Value)>,
    // Emitted after all others: SoftHSM 2.6.1 applies a template in order and refuses what follows MODIFIABLE=0.
    modifiable: Option<CK_BBOOL>,
}

enum Value {
    Flag(CK_BBOOL),
    Number(CK_ULONG),
    Bytes(Zeroizing<Vec<u8>>),
    Mechanisms(Vec<CK_ULONG>),
    Nested(Template),
}

impl Template {
    pub fn new() -> Template {
        Template::default()
    }

    pub fn class(self, class: ObjectClass) -> Template {
        self.with(Attribute::CLASS, Value::Number(class.number()))
    }

    pub fn key_type(self, key_type: KeyType) -> Template {
        self.with(Attribute::KEY_TYPE, Value::Number(key_type.number()))
    }

    /// Length in bytes of a key to be generated. Never in an unwrap template: SoftHSM answers ATTRIBUTE_READ_ONLY.
    pub fn value_len(self, bytes: u64) -> Template {
        self.with(Attribute::VALUE_LEN, Value::Number(bytes))
    }

    pub fn number(self, attribute: Attribute, value: u64) -> Template {
        self.with(attribute, Value::Number(value))
    }

    pub fn flag(mut self, attribute: Attribute, on: bool) -> Template {
        if attribute == Attribute::MODIFIABLE {
            self.modifiable = Some(CK_BBOOL::from(on));
            return self;
        }
        self.with(attribute, Value::Flag(CK_BBOOL::from(on)))
    }

    /// Sets every named attribute to `on`.
    pub fn flags(self, attributes: &[Attribute], on: bool) -> Template {
        attributes
            .iter()
            .fold(self, |template, attribute| template.flag(*attribute, on))
    }

    pub fn bytes(self, attribute: Attribute, value: &[u8]) -> Template {
        self.with(attribute, Value::Bytes(Zeroizing::new(value.to_vec())))
    }

    pub fn label(self, label: &str) -> Template {
        self.bytes(Attribute::LABEL, label.as_bytes())
    }

    pub fn id(self, id: &[u8]) -> Template {
        self.bytes(Attribute::ID, id)
    }

    pub fn allowed_mechanisms(self, mechanisms: &[Mechanism]) -> Template {
        let numbers = mechanisms.iter().map(|mechanism| mechanism.0).collect();
        self.with(Attribute::ALLOWED_MECHANISMS, Value::Mechanisms(numbers))
    }

    pub fn unwrap_template(self, nested: Template) -> Template {
        self.with(Attribute::UNWRAP_TEMPLATE, Value::Nested(nested))
    }

    fn with(mut self, attribute: Attribute, value: Value) -> Template {
        match self.attributes.iter_mut().find(|(present, _)| *present == attribute) {
            Some((_, present)) => *present = value, // the last word counts, in its first place
            None => self.attributes.push((attribute, value)),
        }
        self
    }

    /// The attribute array as the module reads it; it points into `self`.
    pub(crate) fn raw(&self) -> RawTemplate<'_> {
        let mut nested = Vec::new();
        let mut attributes = Vec::with_capacity(self.attributes.len() + 1);
        for (attribute, value) in &self.attributes {
            attributes.push(match value {
                Value::Flag(flag) => entry(*attribute, std::slice::from_ref(flag)),
                Value::Number(number) => entry(*attribute, std::slice::from_ref(number)),
                Value::Bytes(bytes) => entry(*attribute, bytes.as_slice()),
                Value::Mechanisms(numbers) => entry(*attribute, numbers.as_slice()),
                Value::Nested(template) => {
                    let inner = template.raw();
                    let outer = entry(*attribute, inner.attributes.as_slice());
                    nested.push(inner); // moving the struct leaves its heap buffer where it is
                    outer
                }
            });
        }
        if let Some(flag) = &self.modifiable {
            attributes.push(entry(Attribute::MODIFIABLE, std::slice::from_ref(flag)));
        }
        RawTemplate {
            attributes,
            _nested: nested,
            _values: PhantomData,
        }
    }
}

/// `CK_ATTRIBUTE`s that borrow a `Template`'s values.
pub(crate) struct RawTemplate<'a> {
    attributes: Vec<CK_ATTRIBUTE>,
    _nested: Vec<RawTemplate<'a>>,
    _values: PhantomData<&'a Template>,
}

impl RawTemplate<'_> {
    pub(crate) fn as_mut_ptr(&mut self) -> *mut CK_ATTRIBUTE {
        self.attributes.as_mut_ptr()
    }

    pub(crate) fn len(&self) -> CK_ULONG {
        self.attributes.len() as CK_ULONG
    }
}

fn entry<T>(attribute: Attribute, values: &[T]) -> CK_ATTRIBUTE {
    CK_ATTRIBUTE {
        type_: attribute.0,
        // The C signature lacks `const`; a module only reads a template that is passed in.
        pValue: values.as_ptr().cast::<c_void>().cast_mut(),
        ulValueLen: size_of_val(values) as CK_ULONG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(template: &Template) -> Vec<CK_ATTRIBUTE_TYPE> {
        template
            .raw()
            .attributes
            .iter()
            .map(|attribute| attribute.type_)
            .collect()
    }

    #[test]
    fn modifiable_is_emitted_last_wherever_it_was_set() {
        let template = Template::new()
            .flag(Attribute::MODIFIABLE, false)
            .class(ObjectClass::SecretKey)
            .unwrap_template(
                Template::new()
                    .flag(Attribute::MODIFIABLE, false)
                    .flag(Attribute::DERIVE, false),
            )
            .flag(Attribute::SIGN, true);
        assert_eq!(types(&template).last(), Some(&Attribute::MODIFIABLE.0));
        let Value::Nested(nested) = &template.attributes[1].1 else {
            panic!("the second attribute is the nested one")
        };
        assert_eq!(types(nested), [Attribute::DERIVE.0, Attribute::MODIFIABLE.0]);
    }

    #[test]
    fn a_flag_set_twice_is_sent_once_with_its_last_value() {
        let template = Template::new().flag(Attribute::SIGN, false).flag(Attribute::SIGN, true);
        assert_eq!(types(&template), [Attribute::SIGN.0]);
        assert!(matches!(template.attributes[0].1, Value::Flag(1)));
    }
}
