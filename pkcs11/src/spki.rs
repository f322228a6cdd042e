//! SubjectPublicKeyInfo of an AUDIT key: SoftHSM leaves CKA_PUBLIC_KEY_INFO empty, so it is built from CKA_EC_POINT.

use crate::der::{BIT_STRING, SEQUENCE, tlv};
use crate::presets::Curve;

/// DER of the SubjectPublicKeyInfo (RFC 8410 for Ed25519, RFC 5480 for P-256); `None` if `ec_point` is not a point of
/// the curve's encoding. Tokens return the point bare or inside a DER OCTET STRING; both are taken.
pub fn spki(curve: Curve, ec_point: &[u8]) -> Option<Vec<u8>> {
    let point_len = match curve {
        Curve::Ed25519 => 32,
        Curve::P256 => 65,
    };
    let point = match ec_point {
        [0x04, len, point @ ..] if usize::from(*len) == point_len && point.len() == point_len => point,
        point if point.len() == point_len => point,
        _ => return None,
    };
    if curve == Curve::P256 && point[0] != 0x04 {
        return None; // only the uncompressed form
    }
    let algorithm = match curve {
        Curve::Ed25519 => curve.parameters().to_vec(),
        // id-ecPublicKey, then the named curve.
        Curve::P256 => [
            &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01],
            curve.parameters(),
        ]
        .concat(),
    };
    let key = tlv(BIT_STRING, &[&[0u8], point].concat()); // no unused bits
    Some(tlv(SEQUENCE, &[tlv(SEQUENCE, &algorithm), key].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ed25519_matches_the_example_of_rfc_8410() {
        // RFC 8410, section 10.1: the public key of the example certificate.
        let point = [
            0x19, 0xbf, 0x44, 0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba, 0xc1, 0x67, 0xdc, 0x3b, 0x96, 0xc8, 0x50,
            0x86, 0xaa, 0x30, 0xb6, 0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31, 0x66, 0xe1,
        ];
        let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let expected = [&prefix[..], &point[..]].concat();
        assert_eq!(spki(Curve::Ed25519, &point), Some(expected.clone()));
        let wrapped = [&[0x04, 0x20][..], &point[..]].concat();
        assert_eq!(spki(Curve::Ed25519, &wrapped), Some(expected));
    }

    #[test]
    fn a_compressed_or_cut_point_is_refused() {
        assert_eq!(spki(Curve::P256, &[0x02; 33]), None);
        assert_eq!(spki(Curve::P256, &[0x03; 65]), None);
        assert_eq!(spki(Curve::Ed25519, &[0x01; 31]), None);
    }
}
