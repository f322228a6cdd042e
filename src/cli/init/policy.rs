//! The first policy set: written from the example if there is none, checked if there is.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    super::failure::{Failure, Outcome},
    Bootstrap,
};
use crate::{identity, policy};

const POLICIES: &str = include_str!("../../../policy.example/apps.cedar");

/// After this there are policies in `directory` that can be used, and the administrator is among the identities.
pub fn prepare(directory: &Path, admin_certificate: &Path, bootstrap: &Bootstrap) -> Outcome {
    let admin = spiffe_id(admin_certificate)?;
    let identities = directory.join("identities.toml");
    fs::create_dir_all(directory).map_err(|error| Failure::file("make", directory, &error))?;
    if identities.exists() {
        let text = fs::read_to_string(&identities).map_err(|error| Failure::file("read", &identities, &error))?;
        // A pattern such as `…/*` may cover him, too, which is only worth a look.
        if !text.contains(&format!("\"{admin}\"")) {
            return Err(Failure::failed(format!(
                "`{}` does not list {admin}, so nobody could manage keys: add him, or name another --admin-cert",
                identities.display()
            )));
        }
    } else {
        write_new(&identities, &identities_of(&admin, bootstrap))?;
        write_new(&directory.join("apps.cedar"), POLICIES)?;
    }
    let report = policy::check(directory);
    if report.is_ok() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the policies in `{}` cannot be used:\n{report}\nafter correcting them, `keyreeve policy check`",
        directory.display()
    )))
}

fn identities_of(admin: &str, bootstrap: &Bootstrap) -> String {
    let environments: Vec<String> = bootstrap
        .environments()
        .map(|name| format!("\"{}\"", name.id()))
        .collect();
    format!(
        "# Who is who; policy.example/identities.toml explains every field.\n\
         roles = [\"admin\", \"operator\", \"auditor\", \"encrypter\", \"decrypter\"]\n\n\
         [[identity]]\nid = \"{admin}\"\nenvironments = [{}]\nroles = [\"admin\"]\n",
        environments.join(", ")
    )
}

fn spiffe_id(certificate: &Path) -> Result<String, Failure> {
    let leaf = CertificateDer::pem_file_iter(certificate)
        .and_then(|mut chain| chain.next().transpose())
        .map_err(|error| Failure::failed(format!("`{}` cannot be read: {error}", certificate.display())))?
        .ok_or_else(|| Failure::failed(format!("`{}` holds no certificate", certificate.display())))?;
    identity::spiffe_id(&leaf)
        .map(|id| id.as_str().to_owned())
        .map_err(|error| Failure::failed(format!("`{}` names no administrator: {error}", certificate.display())))
}

/// Never over a file that is there.
fn write_new(path: &Path, text: &str) -> Outcome {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .map_err(|error| Failure::file("write", path, &error))
}
