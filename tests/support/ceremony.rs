//! A ceremony by the command line: several tokens come to hold the same root keys (`docs/runbooks/ceremony.md`).

use std::{fs, path::PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use data_encoding::BASE64;

use super::{server::TestServer, setup::Setup};

/// Signed by these two of three.
const SIGNERS: [usize; 2] = [0, 2];

/// A server of one group of two tokens, `one` and `two`, for all environments. Initialised, not serving; and where each token has its
/// objects.
pub fn two_tokens() -> (TestServer, [PathBuf; 2]) {
    let setup = Setup::default().group("main", &["dev", "staging", "prod"], &["one", "two"]);
    let mut server = setup.prepare();
    let places = ["one", "two"].map(|label| server.token.another(label));
    server.hold_ceremony();
    server.init();
    (server, places)
}

impl TestServer {
    /// Makes the tokens of the only group of `self.setup` one group; `init` may follow.
    pub fn hold_ceremony(&mut self) {
        let (group, _, labels) = self.setup.groups[0].clone();
        let directory = self.directory.path().to_owned();
        let file = |name: &str| directory.join(name).display().to_string();
        let keys: Vec<String> = (0..3).map(|number| self.custodian(number)).collect();
        let mut enrolled = Vec::new();
        let mut id = String::new();
        for label in &labels {
            let out = file(&format!("{label}.enrol"));
            let which = if id.is_empty() {
                vec!["--new-group"]
            } else {
                vec!["--group", &id]
            };
            let said = self.step(
                "tokens enrol",
                &[&["--token", label, "--out", &out, "-o", "json"], &which[..]].concat(),
            );
            id = said["group"].as_str().unwrap().to_owned();
            enrolled.push((out, said["token"]["serial"].as_str().unwrap().to_owned()));
        }
        self.setup.custodians = format!("group_id = {id:?}\nquorum = 2\ncustodians = {keys:?}\n");
        self.write_config();

        let first = file("manifest-1.json");
        let mut draft = vec!["--out", &first, "-o", "json"];
        enrolled
            .iter()
            .for_each(|(request, _)| draft.extend(["--enrol", request]));
        self.publish(group, &first, None, &draft);

        let media = file("media");
        fs::create_dir(&media).unwrap();
        self.step("ceremony epoch", &["--token", labels[0], "--out", &media, "-o", "json"]);
        let second = file("manifest-2.json");
        let mut draft = vec![
            "--previous".to_owned(),
            first.clone(),
            "--out".into(),
            second.clone(),
            "-o".into(),
            "json".into(),
        ];
        for (label, (_, serial)) in labels.iter().zip(&enrolled) {
            let receipt = file(&format!("{label}.receipt"));
            let transfer = format!("{media}/epoch-1-to-{serial}.transfer");
            self.step(
                "tokens import",
                &[&transfer, "--token", label, "--out", &receipt, "-o", "json"],
            );
            draft.extend(["--receipt".to_owned(), receipt]);
        }
        let draft: Vec<&str> = draft.iter().map(String::as_str).collect();
        self.publish(group, &second, Some(&first), &draft);
        fs::remove_dir_all(media).unwrap();
    }

    /// Drafts a manifest, signs it, and puts it where the configuration looks for it.
    fn publish(&self, group: &str, draft: &str, previous: Option<&str>, how: &[&str]) {
        let drafted = self.plain_step("ceremony manifest", how);
        let sha256 = drafted["sha256"].as_str().unwrap().to_owned();
        for signer in SIGNERS {
            let key = self.path(&format!("custodian-{signer}.key")).display().to_string();
            let mut sign = vec![draft, "--key", &key, "--sha256", &sha256, "-o", "json"];
            previous
                .into_iter()
                .for_each(|before| sign.extend(["--previous", before]));
            self.plain_step("ceremony sign", &sign);
        }
        let place = self.path(&format!("{group}.json"));
        fs::copy(draft, &place).unwrap();
        fs::copy(format!("{draft}.signatures"), place.with_extension("json.signatures")).unwrap();
    }

    /// A step that is done with a token; what it said.
    fn step(&self, command: &str, arguments: &[&str]) -> serde_json::Value {
        let transcript = self.path("ceremony.jsonl").display().to_string();
        let said = self.run_ok(command, &[arguments, &["--transcript", &transcript]].concat());
        serde_json::from_str(&said).unwrap()
    }

    /// A step that needs no token and no configuration.
    fn plain_step(&self, command: &str, arguments: &[&str]) -> serde_json::Value {
        let mut built = std::process::Command::new(env!("CARGO_BIN_EXE_keyreeve"));
        built.args(command.split(' ')).args(arguments);
        built.arg("--transcript").arg(self.path("ceremony.jsonl"));
        let output = built.output().unwrap();
        assert!(output.status.success(), "keyreeve {command}: {}", super::text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Writes a custodian's key; returns the public half.
    fn custodian(&self, number: usize) -> String {
        let pair = Ed25519KeyPair::generate().unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        super::write_private(
            &self.path(&format!("custodian-{number}.key")),
            &pem("PRIVATE KEY", private.as_ref()),
        );
        pem("PUBLIC KEY", public.as_ref())
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        BASE64.encode(der)
    )
}
