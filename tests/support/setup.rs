//! What a service of the flows looks like before it first starts: directory, token, certificates, policies, configuration.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::ca::{TRUST_DOMAIN, TestCa, spiffe};
use super::server::{TestServer, text};
use super::token::{LABEL, TestToken};

/// Who is who in the flows; the paths of SPIFFE IDs below `spiffe://flows.test/`.
pub const ADMIN: &str = "admin";
/// Uses the keys of team `dev/shop`, and may not manage them.
pub const SHOP: &str = "shop";
/// Manages and uses everything in `staging`, and nothing elsewhere.
pub const STAGING: &str = "staging-admin";
/// Known to the certificate authority, and to no policy.
pub const STRANGER: &str = "stranger";

const POLICIES: &str = r#"
@id("admins-do-all-in-their-environments")
permit (principal in Role::"admin", action, resource);

@id("users-use-keys-of-their-teams")
permit (
  principal in Role::"user",
  action in [
    Action::"Encrypt", Action::"Decrypt", Action::"ReEncryptFrom", Action::"ReEncryptTo", Action::"GenerateDataKey",
    Action::"GenerateDataKeyWithoutPlaintext", Action::"WrapDataKey", Action::"UnwrapDataKey", Action::"ReadKey"
  ],
  resource is Key
) when { principal.teams.contains(resource.team) };

@id("everyone-may-ask-who-he-is")
permit (principal is Workload, action == Action::"WhoAmI", resource);
"#;

/// What is there before the first call.
const BOOTSTRAP: &str = r#"
[[environment]]
name = "dev"
teams = ["shop", "payments"]

[[environment]]
name = "staging"
teams = ["shop"]

[[environment]]
name = "prod"
production = true
teams = ["payments"]
"#;

/// How a service is to be set up.
#[derive(Clone)]
pub struct Setup {
    /// The token's user PIN. No test of another thing depends on it.
    pub pin: String,
    pub kryoptic: bool,
    /// The server is killed when the thread that started it ends.
    pub dies_with_its_starter: bool,
    /// Instead of one token for all environments: the name of a group, its environments, the labels of its tokens. SoftHSM only.
    pub groups: Vec<(&'static str, Vec<&'static str>, Vec<&'static str>)>,
    /// Who vouches for the manifests of groups, in TOML, instead of a pinned hash.
    pub custodians: String,
    /// A module that stands before that of the groups' tokens, and what it needs, in TOML.
    pub before_module: Option<(PathBuf, String)>,
    /// Value of an option in TOML, by section and name, over the usual ones.
    pub settings: BTreeMap<(&'static str, &'static str), String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            pin: "flows-pin-27183".to_owned(),
            kryoptic: false,
            dies_with_its_starter: false,
            groups: Vec::new(),
            custodians: String::new(),
            before_module: None,
            settings: BTreeMap::new(),
        }
    }
}

impl Setup {
    /// Sets one option; `value` as TOML writes it.
    #[must_use]
    pub fn with(mut self, section: &'static str, option: &'static str, value: impl ToString) -> Self {
        self.settings.insert((section, option), value.to_string());
        self
    }

    /// Adds a token group with tokens of its own; the first one is the home group.
    #[must_use]
    pub fn group(mut self, name: &'static str, environments: &[&'static str], labels: &[&'static str]) -> Self {
        self.groups.push((name, environments.to_vec(), labels.to_vec()));
        let home = quoted(self.groups[0].0);
        self.with("audit", "token_group", home)
    }

    #[must_use]
    pub fn durability(self, durability: &str) -> Self {
        self.with("audit", "durability", quoted(durability))
    }

    #[must_use]
    pub fn dying_with_its_starter(mut self) -> Self {
        self.dies_with_its_starter = true;
        self
    }

    /// A token whose every call takes so much longer.
    #[must_use]
    pub fn token_delay_us(self, delay: u64) -> Self {
        self.with("security", "insecure_test_settings", true)
            .with("token", "insecure_test_call_delay_us", delay)
    }

    /// Makes token, certificates, policies and configuration, and runs `keyreeve init`. Nothing serves yet.
    pub fn init(self) -> TestServer {
        let server = self.prepare();
        server.init();
        server
    }

    /// The same without `keyreeve init`.
    pub fn prepare(self) -> TestServer {
        let directory = place();
        let path = |name: &str| directory.path().join(name);
        for name in ["data", "out", "policy", "tls", "token"] {
            fs::create_dir(path(name)).unwrap();
        }
        let token = if self.kryoptic {
            TestToken::kryoptic(&path("token"), &self.pin).expect("KEYREEVE_KRYOPTIC names the module")
        } else {
            TestToken::softhsm(&path("token"), &self.pin)
        };
        super::write_private(&path("pin"), &self.pin);
        fs::write(path("policy").join("flows.cedar"), POLICIES).unwrap();
        fs::write(path("policy").join("identities.toml"), identities()).unwrap();
        let (server_ca, client_ca) = (TestCa::new("flows server CA"), TestCa::new("flows client CA"));
        server_ca.server().write(&path("tls"), "server");
        fs::write(path("tls").join("clients.pem"), &client_ca.pem).unwrap();
        client_ca.client(ADMIN).write(&path("tls"), "admin");
        fs::write(path("bootstrap.toml"), BOOTSTRAP).unwrap();
        fs::write(path("tls").join("server-ca.pem"), &server_ca.pem).unwrap();
        let server = TestServer::new(directory, self, token, server_ca, client_ca);
        server.write_config();
        server
    }
}

impl TestServer {
    /// Runs `keyreeve init`, and pins the manifest that it wrote.
    pub fn init(&self) {
        let output = self.init_command().output().expect("the binary was built");
        assert!(output.status.success(), "keyreeve init: {}", text(&output));
        self.write_config();
    }

    pub fn init_command(&self) -> Command {
        let mut command = self.command("init");
        let (admin, bootstrap) = (self.path("tls/admin.pem"), self.path("bootstrap.toml"));
        command.arg("--admin-cert").arg(admin).arg("--bootstrap").arg(bootstrap);
        command
    }

    /// What the configuration pins: the SHA-256 of the manifest that is there.
    fn manifest_sha256(&self, manifest: &str) -> String {
        let Ok(manifest) = fs::read(self.path(manifest)) else {
            return String::new();
        };
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &manifest);
        data_encoding::HEXLOWER.encode(hash.as_ref())
    }

    /// Writes the configuration file anew, with what `self.setup` says now.
    pub fn write_config(&self) {
        let path = |name: &str| quoted(&self.path(name).display().to_string());
        let mut options: BTreeMap<(&str, &str), String> = BTreeMap::from([
            (("server", "listen"), quoted(&self.listen.to_string())),
            (("server", "local"), quoted(&self.local.to_string())),
            (("server", "node"), quoted("node-1")),
            (("server", "cluster"), quoted("flows")),
            (("tls", "certificate"), path("tls/server.pem")),
            (("tls", "key"), path("tls/server.key")),
            (
                ("tls", "client_ca"),
                format!("{{ {} = {} }}", quoted(TRUST_DOMAIN), path("tls/clients.pem")),
            ),
            (("token", "isolation"), quoted("thread")),
            (("token", "module"), quoted(&self.token.module.display().to_string())),
            (("token", "label"), quoted(LABEL)),
            (("token", "pin_file"), path("pin")),
            (("token", "environments"), r#"["dev", "staging", "prod"]"#.to_owned()),
            (("token", "manifest"), path("token.json")),
            (
                ("token", "manifest_sha256"),
                quoted(&self.manifest_sha256("token.json")),
            ),
            (("store", "data_dir"), path("data")),
            (("audit", "durability"), quoted("written")),
            (("audit", "segment_mib"), "1".to_owned()),
            (("policy", "directory"), path("policy")),
            (("log", "level"), quoted("info")),
            (("security", "lock_memory"), quoted("try")),
        ]);
        for ((section, option), value) in &self.setup.settings {
            options.insert((section, option), value.clone());
        }
        if !self.setup.groups.is_empty() {
            options.retain(|(section, _), _| *section != "token");
        }
        let mut text = String::new();
        let mut section = "";
        for ((of, option), value) in &options {
            if *of != section {
                text += &format!("[{of}]\n");
                section = of;
            }
            text += &format!("{option} = {value}\n");
        }
        for (name, environments, labels) in &self.setup.groups {
            text += &self.group_table(name, environments, labels);
        }
        fs::write(self.config(), text).unwrap();
    }

    fn group_table(&self, name: &str, environments: &[&str], labels: &[&str]) -> String {
        let manifest = format!("{name}.json");
        let (module, needs) = match &self.setup.before_module {
            Some((module, needs)) => (module, needs.as_str()),
            None => (&self.token.module, ""),
        };
        let mut text = format!(
            "[[token_groups]]\nname = {}\nenvironments = {environments:?}\nmodule = {module:?}\nisolation = \"process\"\n\
             {needs}pin_file = {:?}\nmanifest = {:?}\n",
            quoted(name),
            self.path("pin"),
            self.path(&manifest),
        );
        text += &match self.setup.custodians.is_empty() {
            true => format!("manifest_sha256 = {}\n", quoted(&self.manifest_sha256(&manifest))),
            false => self.setup.custodians.clone(),
        };
        for label in labels {
            text += &format!("[[token_groups.tokens]]\nlabel = {}\n", quoted(label));
        }
        text
    }
}

pub fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn identities() -> String {
    let (admin, shop, staging) = (spiffe(ADMIN), spiffe(SHOP), spiffe(STAGING));
    format!(
        r#"
roles = ["admin", "user"]

[[identity]]
id = "{admin}"
environments = ["dev", "staging", "prod"]
roles = ["admin"]

[[identity]]
id = "{shop}"
environments = ["dev"]
teams = ["dev/shop"]
roles = ["user"]

[[identity]]
id = "{staging}"
environments = ["staging"]
roles = ["admin"]
"#
    )
}

/// A directory of its own below `target/tmp`. A server that a whole file shares is never dropped, so what the processes
/// of earlier runs have left is removed first.
fn place() -> TempDir {
    let servers = Path::new(env!("CARGO_TARGET_TMPDIR")).join("servers");
    fs::create_dir_all(&servers).unwrap();
    for entry in fs::read_dir(&servers).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let dead = name
            .split_once('-')
            .is_some_and(|(pid, _)| pid.parse::<u32>().is_ok() && !PathBuf::from("/proc").join(pid).exists());
        if dead {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    TempDir::with_prefix_in(format!("{}-", std::process::id()), servers).unwrap()
}
