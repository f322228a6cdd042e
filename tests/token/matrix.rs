//! Modules that Keyreeve refuses, and why: NSS softokn on a throwaway database, and opencryptoki's soft token where one is at hand
//! (its daemon and its tokens belong to the whole host, so no test makes one). The verdicts are in `docs/tokens.md`.

use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use keyreeve::token::{Manifest, OpenError, Report, ThreadHost, TokenConfig, examine, init};
use keyreeve_pkcs11::{
    Access, Attribute, KeyType, Mechanism, Module, ModuleError, ObjectClass, Session, Template,
    presets::{self, Life},
};

use crate::{
    fixture::workers_in,
    support::{PIN, pin},
};

const NSS: &str = "/usr/lib/x86_64-linux-gnu/libsoftokn3.so";
const OPENCRYPTOKI: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/libopencryptoki.so";
const GROUP: [u8; 16] = [0xab; 16];
/// One module is initialised once in a process, and these tests share one.
static TURN: Mutex<()> = Mutex::new(());

/// An NSS database with a PIN, and the configuration that names it.
struct Nss {
    directory: tempfile::TempDir,
    config: TokenConfig,
    _turn: MutexGuard<'static, ()>,
}

impl Nss {
    fn new() -> Option<Self> {
        if !Path::new(NSS).exists() || Command::new("certutil").arg("-H").output().is_err() {
            eprintln!("skipped: NSS softokn is NOT tried: install libnss3 and libnss3-tools, as `make test` does");
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("database");
        std::fs::create_dir(&database).unwrap();
        let mut config = config(NSS, "NSS Certificate DB", directory.path());
        let made = Command::new("certutil")
            .args(["-N", "-d", &format!("sql:{}", database.display()), "-f"])
            .arg(config.pin_file.as_ref().unwrap())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        config.module_arguments = Some(format!(
            "configdir='sql:{}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=",
            database.display()
        ));
        config.module_writes = vec![database];
        Some(Self {
            directory,
            config,
            _turn: turn,
        })
    }

    fn data(&self) -> &Path {
        self.directory.path()
    }

    /// Calls `body` with a session that is logged in, outside of Keyreeve's own way to the token.
    fn with_session<T>(&self, body: impl FnOnce(&Session) -> T) -> T {
        let module = Module::load_with(Path::new(NSS), self.config.module_arguments.as_deref()).unwrap();
        let module = Arc::new(module);
        let token = module.select(&self.config.selector().unwrap()).unwrap();
        let session = Session::open(&module, token.slot, Access::ReadWrite).unwrap();
        session.login(&pin(PIN)).unwrap();
        let answer = body(&session);
        drop(session);
        module.finalize().unwrap();
        answer
    }

    /// What a service is configured with whose token was prepared by another program: the group's manifest, and a CANARY as NSS can
    /// store it. With COPYABLE or ALLOWED_MECHANISMS, which its database does not know, C_GenerateKey fails.
    fn prepared_by_others(&self) -> TokenConfig {
        self.with_session(|session| {
            let make = |template| session.generate_key(Mechanism::GENERIC_SECRET_KEY_GEN, &template);
            make(presets::canary(Life::Token, &GROUP)).unwrap_err();
            let canary = Template::new()
                .class(ObjectClass::SecretKey)
                .key_type(KeyType::GenericSecret)
                .flags(&[Attribute::TOKEN, Attribute::PRIVATE, Attribute::SENSITIVE], true)
                .flags(&[Attribute::EXTRACTABLE, Attribute::MODIFIABLE], false)
                .flag(Attribute::SIGN, true)
                .label(presets::CANARY_LABEL)
                .id(&GROUP)
                .value_len(32);
            make(canary).unwrap();
        });
        let text = include_str!("../vectors/formats-v1.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let published = vectors["manifest"]["bytes_text"].as_str().unwrap();
        let mut manifest = Manifest::parse(published.as_bytes()).unwrap();
        manifest.group = "ab".repeat(16);
        manifest.members[0].serial = "0000000000000000".into();
        TokenConfig {
            manifest_sha256: manifest.store(&self.config.manifest).unwrap(),
            ..self.config.clone()
        }
    }
}

fn config(module: &str, label: &str, directory: &Path) -> TokenConfig {
    let (pin_file, manifest) = (directory.join("pin"), directory.join("manifest.json"));
    std::fs::write(&pin_file, format!("{PIN}\n")).unwrap();
    let text = format!(
        "module = {module:?}\nlabel = {label:?}\npin_file = {pin_file:?}\nmanifest = {manifest:?}\nsession_threads = 1\n"
    );
    toml::from_str(&text).unwrap()
}

/// By attribute: whether the token enforces it.
fn enforced(report: &Report) -> Vec<(&'static str, bool)> {
    let found = report.enforcement().into_iter();
    found.map(|one| (one.attribute, one.consequences.is_empty())).collect()
}

#[test]
fn init_refuses_nss_with_the_reason_and_makes_no_key() {
    let Some(nss) = Nss::new() else { return };
    let error = init(&nss.config, nss.data()).err().unwrap();
    assert!(matches!(error, OpenError::SelfTest(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("the KEK does not unwrap with EXTRACTABLE=1"), "{text}");
    assert!(text.contains("version keys can be taken out of the token"), "{text}");
    assert!(text.contains("choose another"), "{text}");
    assert!(!nss.config.manifest.exists());
    let kept = Template::new().label(presets::KEK_LABEL);
    assert_eq!(nss.with_session(|session| session.find(&kept, 1).unwrap().len()), 0);
}

#[test]
fn the_report_on_nss_says_what_it_computes_and_what_it_does_not_enforce() {
    let Some(nss) = Nss::new() else { return };
    let report = examine(&nss.config, nss.data());
    assert!(!report.can_serve());
    assert!(report.software_token);
    // It computes rightly: the verdict is about what it gives away.
    assert!(report.known_answers.iter().all(|answer| !answer.must_stop()));
    assert_eq!(
        enforced(&report),
        [
            ("DECRYPT", true),
            ("UNWRAP_TEMPLATE", false),
            ("SENSITIVE", true),
            ("EXTRACTABLE", false),
            ("MODIFIABLE", true),
            ("COPYABLE", false),
            ("ALLOWED_MECHANISMS", false),
            ("TRUSTED", false),
        ]
    );
    let leak = "does not hold: a key with EXTRACTABLE=0 cannot be wrapped (version keys can be taken out";
    assert!(
        report
            .failures
            .iter()
            .any(|failure| failure.refuses && failure.what.starts_with(leak))
    );
}

/// Why a start refuses what [`Nss::prepared_by_others`] made: the attributes of the root keys are read back before anything is asked.
const NOT_KEPT: &str = "the token's key `canary.v1` has COPYABLE=unknown: it can be copied with other attributes";

#[test]
fn a_start_refuses_nss_even_where_another_program_prepared_the_token() {
    let Some(nss) = Nss::new() else { return };
    let config = nss.prepared_by_others();
    let error = ThreadHost::start(config, nss.data(), Arc::new(|_, _| false))
        .err()
        .unwrap();
    assert!(error.is_final(), "{error:?}");
    assert!(error.to_string().starts_with(NOT_KEPT), "{error}");
}

#[test]
fn a_worker_process_gets_the_arguments_and_refuses_nss_for_the_same_reason() {
    let Some(nss) = Nss::new() else { return };
    let error = workers_in(nss.data(), nss.prepared_by_others()).err().unwrap();
    assert!(matches!(error, OpenError::WorkerSays(_)), "{error:?}");
    assert!(error.to_string().starts_with(NOT_KEPT), "{error}");
}

#[test]
fn nss_without_arguments_says_which_option_is_missing() {
    let Some(nss) = Nss::new() else { return };
    let config = TokenConfig {
        module_arguments: None,
        ..nss.config.clone()
    };
    let error = init(&config, nss.data()).err().unwrap();
    assert!(
        matches!(error, OpenError::Module(ModuleError::WantsArguments(_))),
        "{error:?}"
    );
    assert!(error.to_string().contains("set `module_arguments`"), "{error}");
}

/// With KEYREEVE_OPENCRYPTOKI=LABEL of an initialised soft token whose user PIN is that of these tests, and its daemon running.
#[test]
fn init_refuses_opencryptokis_soft_token_with_the_reason() {
    let Some(label) = std::env::var("KEYREEVE_OPENCRYPTOKI").ok() else {
        eprintln!("skipped: opencryptoki is NOT tried: KEYREEVE_OPENCRYPTOKI names no token");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let config = config(OPENCRYPTOKI, &label, directory.path());
    let report = examine(&config, directory.path());
    let text = init(&config, directory.path()).err().unwrap().to_string();
    assert!(text.contains("CKM_AES_KEY_WRAP is not offered"), "{text}");
    assert!(text.contains("no version key can be kept in the store"), "{text}");
    assert!(report.software_token);
    for attribute in ["UNWRAP_TEMPLATE", "ALLOWED_MECHANISMS", "COPYABLE"] {
        let not_taken = format!("no key takes {attribute}: ");
        assert!(
            report
                .failures
                .iter()
                .any(|failure| failure.refuses && failure.what.starts_with(&not_taken)),
            "{:#?}",
            report.failures
        );
    }
}
