//! A throwaway CA, the server's certificate and two callers', valid for 30 days.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};

use super::{
    super::failure::{Failure, Outcome},
    files::{self, Files},
};

/// Writes all certificates and keys.
pub fn write(files: &Files) -> Outcome {
    let key = KeyPair::generate().map_err(Failure::failed)?;
    let mut params = params("keyreeve dev CA")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(Failure::failed)?;
    files::write(&files.ca, certificate.pem().as_bytes())?;
    // The CA's key is dropped here: nothing more can be signed by it.
    let issuer = Issuer::new(params, key);

    let mut server = leaf("keyreeve dev server", ExtendedKeyUsagePurpose::ServerAuth)?;
    let localhost = "localhost".try_into().map_err(Failure::failed)?;
    server.subject_alt_names = vec![
        SanType::DnsName(localhost),
        SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()),
    ];
    sign(&server, &issuer, &files.server_certificate, &files.server_key)?;
    for who in [&files.admin, &files.app] {
        let mut client = leaf(&who.spiffe_id, ExtendedKeyUsagePurpose::ClientAuth)?;
        let id = who.spiffe_id.as_str().try_into().map_err(Failure::failed)?;
        client.subject_alt_names = vec![SanType::URI(id)];
        sign(&client, &issuer, &who.certificate, &who.key)?;
    }
    Ok(())
}

fn sign(params: &CertificateParams, issuer: &Issuer<'_, KeyPair>, certificate: &Path, key: &Path) -> Outcome {
    let pair = KeyPair::generate().map_err(Failure::failed)?;
    let signed = params.signed_by(&pair, issuer).map_err(Failure::failed)?;
    files::write(certificate, signed.pem().as_bytes())?;
    files::write(key, pair.serialize_pem().as_bytes())
}

fn leaf(name: &str, usage: ExtendedKeyUsagePurpose) -> Result<CertificateParams, Failure> {
    let mut params = params(name)?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    Ok(params)
}

fn params(name: &str) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(Vec::new()).map_err(Failure::failed)?;
    params.distinguished_name.push(DnType::CommonName, name);
    let today = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::now()).date();
    let day = |date: jiff::civil::Date| {
        date_time_ymd(
            date.year().into(),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    let at = |days: i64| today.saturating_add(jiff::Span::new().days(days));
    // A day earlier: a guest's clock may lag behind.
    params.not_before = day(at(-1));
    params.not_after = day(at(30));
    Ok(params)
}
