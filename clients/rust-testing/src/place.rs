//! The double's files: certificates, policies, the store; in a directory for this user alone, which goes with it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use keyreeve::config::{Config, ConfigError};
use tempfile::TempDir;

use crate::{
    caller::{Caller, TRUST_DOMAIN, identities},
    certificates::{self, Authority},
};

const POLICIES: &str = include_str!("../../../policy.example/apps.cedar");

pub struct Place {
    directory: TempDir,
}

impl Place {
    pub fn new(authority: &Authority) -> Result<Self, PlaceError> {
        let place = Self {
            directory: tempfile::Builder::new().prefix("keyreeve-double-").tempdir()?,
        };
        for name in ["tls", "callers", "policy", "data"] {
            std::fs::create_dir(place.at(name))?;
        }
        certificates::write(&place.ca(), &authority.certificate_pem)?;
        authority
            .server()?
            .write(&place.at("tls/server.pem"), &place.at("tls/server.key"))?;
        certificates::write(&place.at("policy/apps.cedar"), POLICIES)?;
        Ok(place)
    }

    pub fn ca(&self) -> PathBuf {
        self.at("tls/ca.pem")
    }

    pub fn certificate(&self, caller: &str) -> PathBuf {
        self.at(&format!("callers/{caller}.pem"))
    }

    pub fn key(&self, caller: &str) -> PathBuf {
        self.at(&format!("callers/{caller}.key"))
    }

    pub fn write_identities<'a>(&self, callers: impl Iterator<Item = &'a Caller>, bound: &[String]) -> io::Result<()> {
        certificates::write(&self.at("policy/identities.toml"), &identities(callers, bound))
    }

    /// The configuration of a server here. Its token is never opened.
    pub fn config(&self, listen: SocketAddr, bound: &[String]) -> Result<Config, ConfigError> {
        let local: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let at = |name: &str| self.at(name).display().to_string();
        let text = format!(
            "[server]\nlisten = \"{listen}\"\nlocal = \"{local}\"\nnode = \"double\"\ndrain_s = 2\n\
             [tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {{ {TRUST_DOMAIN:?} = {:?} }}\n\
             [token]\nmodule = \"/none\"\nlabel = \"double\"\npin_fd = 0\nmanifest = \"/none\"\nenvironments = {bound:?}\n\
             [store]\ndata_dir = {:?}\n[audit]\ndurability = \"written\"\nsegment_mib = 1\n[policy]\ndirectory = {:?}\n\
             [metrics]\nenabled = false\n[security]\nlock_memory = \"off\"\nreflection = true\n",
            at("tls/server.pem"),
            at("tls/server.key"),
            at("tls/ca.pem"),
            at("data"),
            at("policy"),
        );
        Config::parse(&text, "the test double's configuration", [])
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// The files cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("the test double cannot write its files: is there room in the directory for temporary files?")]
    Files(#[from] io::Error),
    #[error("the test double cannot make its certificates")]
    Certificates(#[from] rcgen::Error),
}
