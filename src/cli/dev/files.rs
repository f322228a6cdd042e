//! What lies in the directory of `keyreeve dev`.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;

use super::super::failure::{Failure, Outcome};

pub const TOKEN_LABEL: &str = "keyreeve-dev";
/// What `init` makes first.
pub const BOOTSTRAP: &str = "[[environment]]\nname = \"dev\"\nteams = [\"shop\"]\n";

const POLICIES: &str = include_str!("../../../policy.example/apps.cedar");
const IDENTITIES: &str = "\
roles = [\"admin\", \"operator\", \"auditor\", \"encrypter\", \"decrypter\"]

# You, trying things out. In production whoever makes keys does not see data: see policy.example/.
[[identity]]
id = \"spiffe://keyreeve.dev/admin\"
environments = [\"dev\"]
teams = [\"dev/shop\"]
roles = [\"admin\", \"encrypter\", \"decrypter\"]

# An application that may seal with the keys of its team, but neither open nor manage.
[[identity]]
id = \"spiffe://keyreeve.dev/app\"
environments = [\"dev\"]
teams = [\"dev/shop\"]
roles = [\"encrypter\"]
";

/// Paths, all absolute if the directory is.
pub struct Files {
    pub directory: PathBuf,
    pub config: PathBuf,
    pub softhsm_conf: PathBuf,
    pub pin: PathBuf,
    pub ca: PathBuf,
    pub server_certificate: PathBuf,
    pub server_key: PathBuf,
    pub admin: Client,
    pub app: Client,
}

/// One caller's certificate.
pub struct Client {
    pub spiffe_id: String,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What the configuration file says.
pub struct Settings<'a> {
    pub module: &'a Path,
    pub listen: SocketAddr,
    pub local: SocketAddr,
    pub fsync: bool,
    pub threads: usize,
    pub manifest_sha256: &'a str,
}

impl Files {
    pub fn in_directory(directory: &Path) -> Self {
        let client = |name: &str| Client {
            spiffe_id: format!("spiffe://keyreeve.dev/{name}"),
            certificate: directory.join(format!("tls/{name}.pem")),
            key: directory.join(format!("tls/{name}.key")),
        };
        Self {
            config: directory.join("keyreeve.toml"),
            softhsm_conf: directory.join("softhsm2.conf"),
            pin: directory.join("pin"),
            ca: directory.join("tls/ca.pem"),
            server_certificate: directory.join("tls/server.pem"),
            server_key: directory.join("tls/server.key"),
            admin: client("admin"),
            app: client("app"),
            directory: directory.to_owned(),
        }
    }

    /// Directories, the token's configuration and PIN, policies.
    pub fn write_before_token(&self) -> Outcome {
        for name in ["tokens", "tls", "policy", "data"] {
            let path = self.directory.join(name);
            DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map_err(|error| Failure::file("make", &path, &error))?;
        }
        let tokens = self.directory.join("tokens");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        write(&self.softhsm_conf, text.as_bytes())?;
        write(&self.pin, &random_pin()?)?;
        write(&self.directory.join("policy/apps.cedar"), POLICIES.as_bytes())?;
        write(&self.directory.join("policy/identities.toml"), IDENTITIES.as_bytes())
    }

    pub fn write_config(&self, settings: &Settings<'_>) -> Outcome {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let mut text = toml::Table::new();
        let mut section = |name: &str, options: Vec<(&str, toml::Value)>| {
            let options = options
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect();
            text.insert(name.to_owned(), toml::Value::Table(options));
        };
        let mut domains = toml::Table::new();
        domains.insert("keyreeve.dev".into(), self.ca.display().to_string().into());
        let threads = i64::try_from(settings.threads).map_err(Failure::failed)?;
        section(
            "server",
            vec![
                ("listen", settings.listen.to_string().into()),
                ("local", settings.local.to_string().into()),
                ("node", "dev".into()),
            ],
        );
        section(
            "tls",
            vec![
                ("certificate", self.server_certificate.display().to_string().into()),
                ("key", self.server_key.display().to_string().into()),
                ("client_ca", toml::Value::Table(domains)),
            ],
        );
        section(
            "token",
            vec![
                ("module", settings.module.display().to_string().into()),
                ("label", TOKEN_LABEL.into()),
                ("pin_file", self.pin.display().to_string().into()),
                ("environments", vec!["dev"].into()),
                ("manifest", at("token.json").into()),
                ("manifest_sha256", settings.manifest_sha256.into()),
                ("session_threads", threads.into()),
                // A throwaway server should start anywhere, also where processes may not be shut in.
                ("isolation", "thread".into()),
            ],
        );
        let durability = if settings.fsync { "fsync" } else { "written" };
        section("store", vec![("data_dir", at("data").into())]);
        section(
            "audit",
            vec![("durability", durability.into()), ("segment_mib", 8.into())],
        );
        section("policy", vec![("directory", at("policy").into())]);
        section("log", vec![("format", "text".into()), ("level", "warn".into())]);
        section(
            "security",
            vec![
                ("lock_memory", "off".into()),
                ("reflection", true.into()),
                ("insecure_test_settings", true.into()),
            ],
        );
        self.store_config(&text)
    }

    /// The configuration pins the manifest that `init` wrote.
    pub fn pin_manifest(&self, sha256: &str) -> Outcome {
        self.change_config("token", &[("manifest_sha256", sha256.to_owned())])
    }

    /// A kept directory may be served on other ports.
    pub fn readdress(&self, listen: SocketAddr, local: SocketAddr) -> Outcome {
        self.change_config(
            "server",
            &[("listen", listen.to_string()), ("local", local.to_string())],
        )
    }

    /// Writes `env`, and says what to do next.
    pub fn welcome(&self, listen: SocketAddr) -> String {
        let path = self.directory.join("env");
        let exports = |who: &Client| {
            format!(
                "export KEYREEVE_ADDR=https://{listen}\nexport KEYREEVE_CA={}\nexport KEYREEVE_CERT={}\nexport KEYREEVE_KEY={}\n",
                self.ca.display(),
                who.certificate.display(),
                who.key.display()
            )
        };
        let mine = exports(&self.admin);
        // For the commands that work on this directory: audit, doctor, policy, backup.
        let local = format!(
            "export KEYREEVE_CONFIG={}\nexport SOFTHSM2_CONF={}\n",
            self.config.display(),
            self.softhsm_conf.display()
        );
        let written = write(&path, format!("{mine}{local}").as_bytes())
            .and_then(|()| write(&self.directory.join("env-app"), exports(&self.app).as_bytes()));
        if let Err(Failure::Failed(text)) = written {
            return text;
        }
        format!(
            "\nKeyreeve dev is serving on https://{listen} (software token, throwaway keys).\n\n\
             In another terminal, `. {}` or:\n\n{mine}\n\
             A first key and a first message:\n\n\
             keyreeve keys create dev/shop/orders\n\
             echo 'hello' | keyreeve encrypt dev/shop/orders --base64 | tee letter\n\
             keyreeve decrypt dev/shop/orders --base64 <letter\n\n\
             The same with grpcurl (bytes are base64 in JSON):\n\n\
             grpcurl -cacert $KEYREEVE_CA -cert $KEYREEVE_CERT -key $KEYREEVE_KEY \\\n  \
             -d '{{\"name\": \"envs/dev/teams/shop/keys/orders\", \"plaintext\": \"aGVsbG8K\"}}' \\\n  \
             {listen} keyreeve.v1.CryptoService/Encrypt\n\n\
             `{}` makes you an application that may only encrypt. Ctrl-C ends the server.\n",
            path.display(),
            format_args!(". {}", self.directory.join("env-app").display()),
        )
    }

    fn change_config(&self, section: &str, changes: &[(&str, String)]) -> Outcome {
        let text = fs::read_to_string(&self.config).map_err(|error| Failure::file("read", &self.config, &error))?;
        let mut table: toml::Table = toml::from_str(&text).map_err(Failure::failed)?;
        let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
        if let Some(options) = section.as_table_mut() {
            for (key, value) in changes {
                options.insert((*key).to_owned(), value.clone().into());
            }
        }
        self.store_config(&table)
    }

    fn store_config(&self, table: &toml::Table) -> Outcome {
        write(
            &self.config,
            toml::to_string(table).map_err(Failure::failed)?.as_bytes(),
        )
    }
}

/// Writes a file for the owner alone, replacing an older one.
pub fn write(path: &Path, bytes: &[u8]) -> Outcome {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|error| Failure::file("write", path, &error))
}

/// Of 16 characters; nobody has to type it.
pub fn random_pin() -> Result<Vec<u8>, Failure> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).map_err(|_| Failure::failed("the host's random generator failed"))?;
    Ok(HEXLOWER.encode(&bytes).into_bytes())
}
