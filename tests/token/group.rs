//! Throwaway groups: tokens of SoftHSM and Kryoptic in one process, custodians, and the steps of a ceremony by short names.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use data_encoding::BASE64;
use keyreeve::token::{
    CustodianKey, Manifest, ManifestSource, OpenError, PublicKey, Signatures, TokenConfig, Trust,
    ceremony::{EnrolRequest, NextManifest, Receipt, Role, Signed, TokenAtHand, Transfer},
};
use keyreeve_pkcs11::{Access, Module, Selector, Session};

use crate::support::{self, PIN, SOFTHSM};

const CHILD: &str = "KEYREEVE_TEST_GROUP";
pub const GROUP: [u8; 16] = [0xab; 16];

/// Runs `body` in a child process in which both modules find an empty directory. `with_kryoptic`: skipped where there is none.
pub fn run(test: &str, with_kryoptic: bool, body: fn(&Group)) {
    if let Some(directory) = std::env::var_os(CHILD) {
        return body(&Group::new(directory.into()));
    }
    if with_kryoptic && kryoptic().is_none() {
        eprintln!("skipped: KEYREEVE_KRYOPTIC does not name a module");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("tokens")).unwrap();
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        path("tokens").display()
    );
    std::fs::write(path("softhsm2.conf"), text).unwrap();
    let slots: String = (0..4)
        .map(|slot| {
            let database = path(&format!("token{slot}.sql"));
            format!(
                "[[slots]]\nslot = {slot}\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n",
                database.display()
            )
        })
        .collect();
    std::fs::write(path("kryoptic.toml"), slots).unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, directory.path())
        .env("SOFTHSM2_CONF", path("softhsm2.conf"))
        .env("KRYOPTIC_CONF", path("kryoptic.toml"))
        .env("PKCS11SPY", SOFTHSM)
        .env(keyreeve_faultmod::variable::MODULE, SOFTHSM)
        .env(keyreeve_faultmod::variable::CONTROL, path("control"))
        .env("PKCS11SPY_OUTPUT", path("spy.log"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "in the child process:\n{text}");
    assert!(text.contains("1 passed"), "the child ran no test named {test}:\n{text}");
}

pub fn kryoptic() -> Option<PathBuf> {
    std::env::var_os("KEYREEVE_KRYOPTIC").map(PathBuf::from)
}

/// Custodians, and where their files are.
pub struct Group {
    pub directory: PathBuf,
    pub custodians: Vec<(CustodianKey, String)>,
}

impl Group {
    fn new(directory: PathBuf) -> Self {
        std::fs::write(directory.join("pin"), format!("{PIN}\n")).unwrap();
        let custodians = (0..3).map(|number| custodian(&directory, number)).collect();
        Self { directory, custodians }
    }

    /// A new, empty token of a module.
    pub fn token(&self, module: &Path, label: &str) -> TokenConfig {
        let loaded = Arc::new(Module::load(module).unwrap());
        loaded
            .initialise_token(label, &support::pin("73155920"), &support::pin(PIN))
            .unwrap();
        loaded.finalize().unwrap();
        let custodians: Vec<_> = self.custodians.iter().map(|(_, pem)| pem).collect();
        let (pin, manifest) = (self.directory.join("pin"), self.directory.join("manifest.json"));
        let text = format!(
            "module = {module:?}\nlabel = {label:?}\npin_file = {pin:?}\nmanifest = {manifest:?}\ngroup_id = {group:?}\n\
             custodians = {custodians:?}\nquorum = 2\nsession_threads = 1\ncall_deadline_ms = 10000\n",
            group = "ab".repeat(16),
        );
        toml::from_str(&text).unwrap()
    }

    pub fn softhsm(&self, label: &str) -> TokenConfig {
        self.token(Path::new(SOFTHSM), label)
    }

    pub fn at(&self, token: &TokenConfig) -> TokenAtHand {
        TokenAtHand::open(token, &self.directory).unwrap()
    }

    pub fn enrol(&self, token: &TokenConfig, role: Role) -> Signed<EnrolRequest> {
        let stated = self.at(token).enrol(Some(GROUP), role, None).unwrap();
        stated.handed_over().unwrap()
    }

    /// Drafts, signs by two custodians, and puts the manifest where the configurations look for it.
    pub fn publish(&self, next: NextManifest) -> Manifest {
        let manifest = next.draft().unwrap();
        self.put(&manifest, &[0, 2])
    }

    /// The manifest after that of today, with a change.
    pub fn next(&self, change: impl FnOnce(&mut NextManifest)) -> Manifest {
        let mut next = NextManifest {
            previous: Some(self.manifest()),
            ..NextManifest::default()
        };
        change(&mut next);
        self.publish(next)
    }

    /// The same of any manifest, signed by any of the custodians.
    pub fn put(&self, manifest: &Manifest, signers: &[usize]) -> Manifest {
        let source = self.source();
        let bytes = manifest.bytes();
        std::fs::write(&source.path, &bytes).unwrap();
        let mut signatures = Signatures::none();
        for signer in signers {
            let key = &self.custodians[*signer].0;
            signatures.add(key.public(), &key.sign_manifest(&bytes).unwrap());
        }
        signatures.write(&Signatures::beside(&source.path)).unwrap();
        manifest.clone()
    }

    pub fn source(&self) -> ManifestSource {
        ManifestSource {
            path: self.directory.join("manifest.json"),
            trust: Trust::Custodians {
                group: "ab".repeat(16),
                keys: self.custodians.iter().map(|(_, pem)| pem.clone()).collect(),
                quorum: 2,
            },
        }
    }

    pub fn manifest(&self) -> Manifest {
        Manifest::load(&self.source()).unwrap()
    }

    /// A new group of these members and recovery tokens, without an epoch.
    pub fn found(&self, members: &[&TokenConfig], recovery: &[&TokenConfig]) -> Manifest {
        let members = members.iter().map(|token| self.enrol(token, Role::Member));
        let recovery = recovery.iter().map(|token| self.enrol(token, Role::Recovery));
        self.publish(NextManifest {
            enrol: members.chain(recovery).collect(),
            ..NextManifest::default()
        })
    }

    pub fn import(&self, token: &TokenConfig, transfers: &[Signed<Transfer>]) -> Result<Signed<Receipt>, OpenError> {
        let at_hand = self.at(token);
        let transfer = to(transfers, at_hand.serial());
        let stated = at_hand.import((&self.manifest(), &[]), transfer)?;
        Ok(stated.handed_over()?)
    }

    /// A new epoch: made at the first member, imported by all of them, listed in the next manifest.
    pub fn epoch(&self, members: &[&TokenConfig]) -> Vec<Signed<Transfer>> {
        let transfers = self.at(members[0]).make_epoch(&self.manifest()).unwrap();
        let receipts = members.iter().map(|token| self.import(token, &transfers).unwrap());
        self.next(|next| next.receipts.extend(receipts));
        transfers
    }

    /// How often a module that is loaded through the spy was called so.
    pub fn spied(&self, function: &str) -> usize {
        let log = std::fs::read(self.directory.join("spy.log")).unwrap_or_default();
        let called = |line: &&str| line.ends_with(&format!(": {function}"));
        String::from_utf8_lossy(&log).lines().filter(called).count()
    }

    /// A raw session, logged in: what an intruder on the host has.
    pub fn intruder(&self, token: &TokenConfig) -> (Arc<Module>, Session) {
        let module = Arc::new(Module::load(&token.module).unwrap());
        let info = module.select(&Selector::Label(token.label.clone().unwrap())).unwrap();
        let session = Session::open(&module, info.slot, Access::ReadWrite).unwrap();
        session.login(&support::pin(PIN)).unwrap();
        (module, session)
    }
}

/// The transfer file for one token.
pub fn to<'a>(transfers: &'a [Signed<Transfer>], serial: &str) -> &'a Signed<Transfer> {
    transfers.iter().find(|transfer| transfer.said.to == serial).unwrap()
}

fn custodian(directory: &Path, number: usize) -> (CustodianKey, String) {
    let pair = Ed25519KeyPair::generate().unwrap();
    let pkcs8 = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der>::as_der(&pair).unwrap();
    let path = directory.join(format!("custodian-{number}.key"));
    std::fs::write(&path, pem("PRIVATE KEY", pkcs8.as_ref())).unwrap();
    let key = CustodianKey::read(&path).unwrap();
    assert!(key.public().spki().ends_with(pair.public_key().as_ref()));
    let public: &PublicKey = key.public();
    let text = pem("PUBLIC KEY", public.spki());
    (key, text)
}

pub fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        BASE64.encode(der)
    )
}
