//! A server's directory whose tokens are one group of `[[token_groups]]`, made by a ceremony by command line (`docs/runbooks/ceremony.md`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::{Failure, server::Server, token};

/// Signed by these two of three.
const SIGNERS: [usize; 2] = [0, 2];

pub struct TokenGroup {
    keyreeve: PathBuf,
    directory: PathBuf,
    /// Where each token has its objects, in the order of the configuration.
    places: Vec<PathBuf>,
}

impl TokenGroup {
    /// Of so many SoftHSM tokens, in `directory`, which it makes. `settings`: further options of each token, as TOML.
    pub fn make(keyreeve: &Path, directory: &Path, tokens: usize, settings: &str) -> Result<Self, Failure> {
        // Certificates, policies and the rest of the configuration are those of `keyreeve dev`; store and token are made anew.
        drop(Server::start(keyreeve, directory, &["--keep"], &[])?);
        for leftover in ["token.json", "data.tombstones"] {
            let _ = fs::remove_file(directory.join(leftover));
        }
        fs::remove_dir_all(directory.join("data"))?;
        fs::remove_dir_all(directory.join("tokens"))?;
        for empty in ["data", "tokens"] {
            fs::create_dir(directory.join(empty))?;
        }
        let mut group = Self {
            keyreeve: fs::canonicalize(keyreeve)?, // steps run in another directory
            directory: directory.to_owned(),
            places: Vec::new(),
        };
        let labels: Vec<String> = (1..=tokens).map(|number| format!("token-{number}")).collect();
        for label in &labels {
            group.initialise_token(label)?;
        }
        group.hold_ceremony(&labels, settings)?;
        fs::write(
            group.path("bootstrap.toml"),
            "[[environment]]\nname = \"dev\"\nteams = [\"shop\"]\n",
        )?;
        let (admin, bootstrap) = (group.text("tls/admin.pem"), group.text("bootstrap.toml"));
        group.with_token("init", &["--admin-cert", &admin, "--bootstrap", &bootstrap])?;
        Ok(group)
    }

    /// Serves, with so many of its tokens there.
    pub fn serve(&self, tokens: usize) -> Result<Server, Failure> {
        let _ = fs::remove_file(self.path("env")); // of an earlier server: it says that one takes calls
        let server = Server::start(&self.keyreeve, &self.directory, &[], &[])?;
        server.wait_for_tokens(tokens)?;
        Ok(server)
    }

    /// Takes one token out of the directory in which the module looks for tokens.
    pub fn take_away(&self, token: usize) -> Result<(), Failure> {
        Ok(fs::rename(&self.places[token], self.path("away"))?)
    }

    pub fn bring_back(&self, token: usize) -> Result<(), Failure> {
        Ok(fs::rename(self.path("away"), &self.places[token])?)
    }

    fn initialise_token(&mut self, label: &str) -> Result<(), Failure> {
        let pin = fs::read_to_string(self.path("pin"))?;
        token::initialise(&self.path("softhsm2.conf"), label, pin.trim_end())?;
        let listed = fs::read_dir(self.path("tokens"))?.map(|entry| Ok(entry?.path()));
        let listed: Vec<PathBuf> = listed.collect::<Result<_, Failure>>()?;
        let new = listed.into_iter().find(|place| !self.places.contains(place));
        self.places.push(new.ok_or("a new token has a directory")?);
        Ok(())
    }

    fn hold_ceremony(&self, labels: &[String], settings: &str) -> Result<(), Failure> {
        let base = without_token(&fs::read_to_string(self.path("keyreeve.toml"))?);
        let custodians = (0..3).map(|number| self.custodian(number));
        let custodians: Vec<String> = custodians.collect::<Result<_, Failure>>()?;
        let configure = |vouching: &str| -> Result<(), Failure> {
            let group = self.group_table(labels, &[vouching, settings].concat())?;
            Ok(fs::write(self.path("keyreeve.toml"), format!("{base}\n{group}"))?)
        };
        configure("")?;
        let (mut id, mut draft, mut serials) = (String::new(), Vec::new(), Vec::new());
        for label in labels {
            let request = self.text(&format!("{label}.enrol"));
            let which = match id.as_str() {
                "" => vec!["--new-group"],
                id => vec!["--group", id],
            };
            let said = self.with_token(
                "tokens enrol",
                &[&["--token", label, "--out", &request][..], &which].concat(),
            )?;
            id = text_of(&said["group"])?;
            serials.push(text_of(&said["token"]["serial"])?);
            draft.extend(["--enrol".to_owned(), request]);
        }
        configure(&format!("group_id = {id:?}\nquorum = 2\ncustodians = {custodians:?}\n"))?;
        let first = self.text("manifest-1.json");
        self.publish(&first, None, &draft)?;

        let media = self.text("media");
        fs::create_dir(&media)?;
        self.with_token("ceremony epoch", &["--token", &labels[0], "--out", &media])?;
        let mut draft = vec!["--previous".to_owned(), first.clone()];
        for (label, serial) in labels.iter().zip(serials) {
            let (transfer, receipt) = (
                format!("{media}/epoch-1-to-{serial}.transfer"),
                self.text(&format!("{label}.receipt")),
            );
            self.with_token("tokens import", &[&transfer, "--token", label, "--out", &receipt])?;
            draft.extend(["--receipt".to_owned(), receipt]);
        }
        self.publish(&self.text("manifest-2.json"), Some(&first), &draft)
    }

    /// Drafts a manifest, has it signed, and puts it where the configuration looks for it.
    fn publish(&self, manifest: &str, previous: Option<&str>, draft: &[String]) -> Result<(), Failure> {
        let draft: Vec<&str> = draft.iter().map(String::as_str).collect();
        let drafted = self.by_hand("ceremony manifest", &[&["--out", manifest][..], &draft].concat())?;
        let sha256 = text_of(&drafted["sha256"])?;
        for signer in SIGNERS {
            let key = self.text(&format!("custodian-{signer}.key"));
            let mut sign = vec![manifest, "--key", &key, "--sha256", &sha256];
            sign.extend(previous.iter().flat_map(|previous| ["--previous", previous]));
            self.by_hand("ceremony sign", &sign)?;
        }
        fs::copy(manifest, self.path("group.json"))?;
        fs::copy(format!("{manifest}.signatures"), self.path("group.json.signatures"))?;
        Ok(())
    }

    /// Makes a custodian's key; the public half as PEM.
    fn custodian(&self, number: usize) -> Result<String, Failure> {
        let key = self.text(&format!("custodian-{number}.key"));
        done(Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out", &key]))?;
        let public = done(Command::new("openssl").args(["pkey", "-pubout", "-in", &key]))?;
        Ok(String::from_utf8(public.stdout)?)
    }

    fn group_table(&self, labels: &[String], options: &str) -> Result<String, Failure> {
        let (pin, manifest) = (self.text("pin"), self.text("group.json"));
        let module = token::module()?;
        let mut table = format!(
            "[[token_groups]]\nname = \"main\"\nenvironments = [\"dev\"]\nmodule = {module:?}\nisolation = \"process\"\n\
             pin_file = {pin:?}\nmanifest = {manifest:?}\n{options}"
        );
        for label in labels {
            table += &format!("[[token_groups.tokens]]\nlabel = {label:?}\n");
        }
        Ok(table)
    }

    /// A step at a token's host; what it said.
    fn with_token(&self, step: &str, arguments: &[&str]) -> Result<Value, Failure> {
        let config = self.text("keyreeve.toml");
        self.run(step, &[&["--config", &config], arguments].concat())
    }

    /// A step of a ceremony that needs neither token nor configuration.
    fn by_hand(&self, step: &str, arguments: &[&str]) -> Result<Value, Failure> {
        self.run(step, arguments)
    }

    fn run(&self, step: &str, arguments: &[&str]) -> Result<Value, Failure> {
        let output = done(
            Command::new(&self.keyreeve)
                .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
                .current_dir(&self.directory) // where a ceremony leaves its transcript
                .args(step.split(' '))
                .args(arguments)
                .args(["-o", "json"]),
        )?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// A configuration file without its table `[token]`.
fn without_token(text: &str) -> String {
    let tables: Vec<&str> = text.split("\n[").filter(|table| !table.starts_with("token]")).collect();
    tables.join("\n[")
}

fn text_of(value: &Value) -> Result<String, Failure> {
    Ok(value
        .as_str()
        .ok_or("a step of the ceremony did not say what it did")?
        .to_owned())
}

fn done(command: &mut Command) -> Result<Output, Failure> {
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {said}", command.get_program().display()).into());
    }
    Ok(output)
}
