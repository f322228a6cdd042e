//! Nothing secret leaves a server's memory: canaries are planted, and looked for in everything the server left behind.

#![allow(clippy::unwrap_used)] // all of this file is a test

mod support;

use std::fs;
use std::path::PathBuf;

use keyreeve_proto::v1 as proto;
use support::canary::Hunt;
use support::{Client, Fault, SHOP, STRANGER, Setup, TestServer, answer, key_name, pairs, team_name, text};

/// Values with every kind of byte: text, and bytes that encodings treat specially.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("text", b"canary-7Qx2Lk9vTzR4".to_vec()),
        (
            "bytes",
            (0..32u8).map(|n| n.wrapping_mul(151).wrapping_add(251)).collect(),
        ),
        ("quotes", b"\"'\\\n\t<canary>&%\0 \xff\xfe?>>>".to_vec()),
    ]
}

/// What leaks look like, made by other code than the hunt's own.
fn leaks(value: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex = |upper: bool| -> String {
        let digit = |byte: &u8| {
            if upper {
                format!("{byte:02X}")
            } else {
                format!("{byte:02x}")
            }
        };
        value.iter().map(digit).collect()
    };
    let list: Vec<u8> = value.to_vec();
    let mut dump = String::new();
    for line in value.chunks(7) {
        dump += &line.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
        dump += "\n";
    }
    let mut leaks = vec![
        ("raw", value.to_vec()),
        ("hex", hex(false).into_bytes()),
        ("HEX", hex(true).into_bytes()),
        ("hex dump", dump.into_bytes()),
        ("Debug of a list", format!("{list:?}").into_bytes()),
        ("pretty Debug of a list", format!("{list:#?}").into_bytes()),
        ("JSON of a list", serde_json::to_vec(&list).unwrap()),
        ("pretty JSON of a list", serde_json::to_vec_pretty(&list).unwrap()),
        (
            "Debug of bytes",
            format!("{:?}", bytes::Bytes::from(value.to_vec())).into_bytes(),
        ),
    ];
    for before in 0..5 {
        for after in 0..3 {
            let whole = [&vec![b'<'; before], value, &vec![b'>'; after]].concat();
            leaks.push(("base64", data_encoding::BASE64.encode(&whole).into_bytes()));
            leaks.push(("base64url", data_encoding::BASE64URL.encode(&whole).into_bytes()));
            leaks.push(("wrapped base64", data_encoding::BASE64_MIME.encode(&whole).into_bytes()));
        }
    }
    leaks
}

#[test]
fn the_hunt_finds_a_canary_however_it_was_written_down() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("below").join("log");
    fs::create_dir(file.parent().unwrap()).unwrap();
    for (name, value) in samples() {
        let hunt = Hunt::new([(name, value.clone())]);
        for (form, leak) in leaks(&value) {
            let text = [b"{\"some\":\"thing\",\"leaked\":\"", leak.as_slice(), b"\"} and more\n"].concat();
            fs::write(&file, text).unwrap();
            let (read, found) = hunt.in_files(directory.path(), &[]);
            assert_eq!(read, 1);
            assert!(
                found.iter().any(|sighting| sighting.canary == name),
                "{name} as {form} was not found"
            );
        }
    }
}

#[test]
fn the_hunt_finds_nothing_where_nothing_is() {
    let hunt = Hunt::new(samples());
    let mut almost = samples();
    for (_, value) in &mut almost {
        value[3] ^= 1;
    }
    for (name, value) in &almost {
        for (form, leak) in leaks(value) {
            assert_eq!(hunt.in_bytes("a file", &leak), [], "{name} as {form}");
        }
    }
}

#[test]
fn the_hunt_looks_at_the_names_of_files_and_leaves_out_what_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let (pin, named) = (
        directory.path().join("pin"),
        directory.path().join("canary-7Qx2Lk9vTzR4.tmp"),
    );
    fs::write(&pin, "canary-7Qx2Lk9vTzR4").unwrap();
    let hunt = Hunt::new([samples().remove(0)]);
    assert_eq!(hunt.in_files(directory.path(), &[]).1.len(), 1);
    assert_eq!(hunt.in_files(directory.path(), std::slice::from_ref(&pin)).1, []);
    fs::write(&named, "").unwrap();
    assert_eq!(hunt.in_files(directory.path(), &[pin]).1.len(), 1);
}

const PIN: &str = "pin-canary-Zq81Xv73Kd";
const PLAINTEXT: &[u8] = b"plaintext-canary-9Wm4Tb6Yp2Rj";
const CONTEXT: (&str, &str) = ("tenant", "context-canary-3Hc8Nf5Lg7Vs");
const AAD: &[u8] = b"aad-canary-6Jx1Qz9Dk4Bw";

/// A session with a canary in every place where a caller can put one, done well and done wrong. Returns the data keys that
/// it was given, and everything that errors said.
async fn plant(server: &TestServer) -> (Vec<Vec<u8>>, Vec<Fault>) {
    let (mut secrets, mut faults) = plant_under(server, "dev/shop/canaries", proto::KeySuite::PrfCommit).await;
    let (more, others) = plant_under(server, "dev/shop/token-canaries", proto::KeySuite::TokenGcm).await;
    secrets.extend(more);
    faults.extend(others);
    (secrets, faults)
}

async fn plant_under(server: &TestServer, key: &str, suite: proto::KeySuite) -> (Vec<Vec<u8>>, Vec<Fault>) {
    let (mut secrets, mut faults) = (Vec::new(), Vec::new());
    let admin = server.admin().await;
    admin.create_key_of(key, suite).await.unwrap();
    let shop = server.client(SHOP).await;
    let sealed = encrypt(&shop, key, &[CONTEXT]).await.unwrap();
    assert_eq!(decrypt(&shop, key, &sealed, &[CONTEXT]).await.unwrap(), PLAINTEXT);
    for _ in 0..3 {
        let (plain, envelope) = shop.data_key(key, &[CONTEXT]).await.unwrap();
        shop.unwrap_data_key(key, &envelope, &[CONTEXT]).await.unwrap();
        faults.extend(shop.unwrap_data_key(key, &envelope, &[]).await.err());
        secrets.push(plain);
    }
    let random = proto::GenerateRandomRequest {
        environment: "envs/dev".to_owned(),
        length: 32,
    };
    secrets.push(
        answer(admin.crypto().generate_random(random).await)
            .unwrap()
            .data
            .to_vec(),
    );
    // Refusals and faults: a stranger, a state, a checksum, a context that is malformed, a name that is a canary's neighbour.
    faults.extend(encrypt(&server.client(STRANGER).await, key, &[CONTEXT]).await.err());
    faults.extend(encrypt(&shop, key, &[CONTEXT, CONTEXT]).await.err());
    faults.extend(encrypt(&shop, key, &[("kms:x", CONTEXT.1)]).await.err());
    faults.extend(encrypt(&shop, "dev/shop/no-such-key", &[CONTEXT]).await.err());
    faults.extend(decrypt(&shop, key, PLAINTEXT, &[CONTEXT]).await.err());
    faults.extend(decrypt(&shop, key, &sealed, &[("tenant", "another")]).await.err());
    let wrong_sum = proto::EncryptRequest {
        plaintext_crc32c: Some(1),
        ..request(key, &[CONTEXT])
    };
    faults.extend(answer(shop.crypto().encrypt(wrong_sum).await).err());
    let items = vec![
        proto::batch_encrypt_request::Item {
            plaintext: PLAINTEXT.to_vec().into(),
            encryption_context: pairs(&[CONTEXT]),
            ..Default::default()
        };
        3
    ];
    let batch = proto::BatchEncryptRequest {
        name: key_name(key),
        items,
    };
    answer(shop.crypto().batch_encrypt(batch).await).map(drop).unwrap();
    let stream: Vec<_> = (0..3)
        .map(|tag| proto::CryptRequest {
            tag,
            request: Some(proto::crypt_request::Request::Encrypt(request(key, &[CONTEXT]))),
        })
        .collect();
    let mut answers = answer(shop.crypto().crypt(tokio_stream::iter(stream)).await).unwrap();
    while answers.message().await.unwrap().is_some() {}
    let suspend = proto::SuspendKeyRequest {
        name: key_name(key),
        ..Default::default()
    };
    answer(admin.keys().suspend_key(suspend).await).map(drop).unwrap();
    faults.extend(encrypt(&shop, key, &[CONTEXT]).await.err());
    faults.extend(decrypt(&shop, key, &sealed, &[CONTEXT]).await.err());
    (secrets, faults)
}

fn request(key: &str, context: &[(&str, &str)]) -> proto::EncryptRequest {
    proto::EncryptRequest {
        name: key_name(key),
        plaintext: PLAINTEXT.to_vec().into(),
        encryption_context: pairs(context),
        aad: AAD.to_vec().into(),
        ..Default::default()
    }
}

async fn encrypt(client: &Client, key: &str, context: &[(&str, &str)]) -> Result<Vec<u8>, Fault> {
    let answer = answer(client.crypto().encrypt(request(key, context)).await)?;
    Ok(answer.ciphertext.to_vec())
}

async fn decrypt(client: &Client, key: &str, ciphertext: &[u8], context: &[(&str, &str)]) -> Result<Vec<u8>, Fault> {
    let request = proto::DecryptRequest {
        name: key_name(key),
        ciphertext: ciphertext.to_vec().into(),
        encryption_context: pairs(context),
        aad: AAD.to_vec().into(),
        ..Default::default()
    };
    let answer = answer(client.crypto().decrypt(request).await)?;
    Ok(answer.plaintext.to_vec())
}

/// Everything that a server leaves behind: its directory (database and write-ahead log, audit segments, latches, output) but
/// the PIN file itself; its metrics; what the operator's commands print.
fn hunt_everywhere(hunt: &Hunt, server: &TestServer, more: &[(&str, String)]) -> Vec<support::canary::Sighting> {
    let (read, mut found) = hunt.in_files(server.directory.path(), &[server.path("pin")]);
    assert!(read > 10, "only {read} files were read");
    for (place, text) in more {
        assert!(!text.is_empty(), "nothing from {place}");
        found.extend(hunt.in_bytes(place, text.as_bytes()));
    }
    found
}

#[tokio::test]
async fn no_canary_leaves_the_memory_of_a_server() {
    let setup = Setup {
        pin: PIN.to_owned(),
        ..Setup::default()
    };
    // As talkative as it can be made.
    let mut server = setup.with("log", "level", "\"trace\"").init();
    server.serve().await;
    let (secrets, faults) = plant(&server).await;
    assert!(faults.len() >= 20, "{} faults", faults.len());
    let metrics = server.http("/metrics").unwrap();
    assert!(metrics.contains("keyreeve_"), "{metrics}");
    leaves_no_core(&mut server).await;
    server.serve().await;
    let commands = [
        text(&server.run("audit tail", &["--count", "1000", "-o", "json"])),
        text(&server.run("audit verify", &["--with-token"])),
        text(&server.run("doctor", &[])),
    ];
    assert!(server.stop().await.success());
    let mut canaries: Vec<(String, Vec<u8>)> = vec![
        ("the PIN".to_owned(), PIN.as_bytes().to_vec()),
        ("the plaintext".to_owned(), PLAINTEXT.to_vec()),
        ("a context value".to_owned(), CONTEXT.1.as_bytes().to_vec()),
        ("associated data".to_owned(), AAD.to_vec()),
    ];
    let secrets = secrets.into_iter().enumerate();
    canaries.extend(secrets.map(|(at, secret)| (format!("secret {at}"), secret)));
    let hunt = Hunt::new(canaries);
    let more = [
        ("the metrics", metrics),
        ("the errors", format!("{faults:?}")),
        ("the commands", commands.concat()),
    ];
    assert_eq!(hunt_everywhere(&hunt, &server, &more), []);
}

/// A crash leaves no core behind, although whoever started the server allows one.
async fn leaves_no_core(server: &mut TestServer) {
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Core).maximum;
    assert!(
        allowed.is_none_or(|most| most > 0),
        "no core is allowed here, so this shows nothing"
    );
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid().as_raw_nonzero())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let limits: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(limits, ["0", "0"], "soft and hard: {core}");
    rustix::process::kill_process(server.pid(), rustix::process::Signal::ABORT).unwrap();
    assert!(!server.wait().await.success());
    let names = fs::read_dir(server.directory.path()).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.any(|name| name.starts_with("core")));
}

/// The same hunt over the same places, with canaries that the service does keep, in every disguise: owners of keys are in the
/// database, and objects of refused calls in the log.
#[tokio::test]
async fn a_leak_into_database_or_log_turns_the_hunt_red() {
    const CANARY: &[u8] = b"leak-canary-5Gt2Mw";
    let mut server = Setup::default().init();
    server.serve().await;
    let admin = server.admin().await;
    let hunt = Hunt::new([("leak", CANARY.to_vec())]);
    let mut disguises: Vec<&support::canary::Form> = hunt.forms().iter().collect();
    disguises.retain(|form| form.bytes.len() <= 128);
    assert!(disguises.len() >= 8);
    for (at, form) in disguises.iter().enumerate() {
        let leak = String::from_utf8(form.bytes.clone()).unwrap();
        let request = proto::CreateKeyRequest {
            parent: team_name("dev/shop"),
            key_id: format!("leak-{at}"),
            owner: leak.clone(),
            ..Default::default()
        };
        answer(admin.keys().create_key(request).await).map(drop).unwrap();
        let request = proto::SuspendKeyRequest {
            name: key_name(&format!("dev/shop/leak-{at}")),
            reason: leak,
            ..Default::default()
        };
        answer(admin.keys().suspend_key(request).await).map(drop).unwrap();
    }
    // A leak into the output of the process, too.
    fs::write(server.path("out/stdout"), format!("plaintext={CANARY:?}\n")).unwrap();
    assert!(server.stop().await.success());
    let found = hunt_everywhere(&hunt, &server, &[]);
    let seen_in = |part: &str| -> Vec<&str> {
        let there = found.iter().filter(|sighting| sighting.place.contains(part));
        there.map(|sighting| sighting.disguise.as_str()).collect()
    };
    for form in disguises {
        assert!(
            seen_in("store.db").contains(&form.disguise.as_str()),
            "{} in the database",
            form.disguise
        );
        assert!(
            seen_in(".seg").contains(&form.disguise.as_str()),
            "{} in the log",
            form.disguise
        );
    }
    assert!(!seen_in("out/stdout").is_empty(), "in the output");
    // And the PIN file is left out by name only: its text elsewhere is found.
    let hunt = Hunt::new([("PIN", server.token.pin.clone().into_bytes())]);
    assert_eq!(hunt_everywhere(&hunt, &server, &[]), []);
    let copy: PathBuf = server.data().join("pin.bak");
    fs::copy(server.path("pin"), &copy).unwrap();
    assert_eq!(hunt_everywhere(&hunt, &server, &[]).len(), 1);
}
