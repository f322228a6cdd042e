//! Where the client's certificate comes from: files, or a source of the caller's own.

use std::{
    fmt::Debug,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::ClientError;

/// A certificate with its key, and whom to trust.
pub struct Certificates {
    /// May have signed the service's certificate.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The client's own, leaf first. Its SPIFFE ID is who the service takes the caller for.
    pub chain: Vec<CertificateDer<'static>>,
    /// Of the leaf.
    pub key: PrivateKeyDer<'static>,
}

/// Gives certificates, and says when there are new ones. Asked before calls, once a second at most, and never waited for: a source that
/// has to ask somebody does that in a task of its own.
pub trait CertificateSource: Debug + Send + Sync {
    /// Another value than before: what [`Self::read`] answers may have changed.
    fn version(&self) -> Vec<u64>;

    /// What is to be used from now on. Errors: `CONFIGURATION`; what was in use before stays.
    fn read(&self) -> Result<Certificates, ClientError>;
}

/// PEM files. Paths, never keys: a key is read when it is needed, and is not kept here.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// Authorities that may have signed the service's certificate.
    pub ca: PathBuf,
    /// Client certificate, leaf first.
    pub certificate: PathBuf,
    /// Private key of `certificate`.
    pub key: PathBuf,
}

impl CertificateSource for CertificateFiles {
    /// Times, sizes and inodes: a file that is replaced changes at least one of them.
    fn version(&self) -> Vec<u64> {
        let mut version = Vec::with_capacity(12);
        for file in [&self.ca, &self.certificate, &self.key] {
            match fs::metadata(file) {
                Ok(of) => version.extend([
                    of.mtime().unsigned_abs(),
                    of.mtime_nsec().unsigned_abs(),
                    of.size(),
                    of.ino(),
                ]),
                Err(_) => version.push(0),
            }
        }
        version
    }

    fn read(&self) -> Result<Certificates, ClientError> {
        Ok(Certificates {
            authorities: certificates(&self.ca)?,
            chain: certificates(&self.certificate)?,
            key: PrivateKeyDer::from_pem_file(&self.key).map_err(|error| unusable(&self.key, &error))?,
        })
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(file, &error))?;
    if found.is_empty() {
        return Err(unusable(file, &"no certificate in it"));
    }
    Ok(found)
}

fn unusable(file: &Path, problem: &dyn std::fmt::Display) -> ClientError {
    ClientError::configuration(format!("`{}` cannot be used: {problem}", file.display()))
}
