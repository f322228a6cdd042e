//! The little DER that public keys and ECDSA signatures need.

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const SEQUENCE: u8 = 0x30;

/// One element. Content of up to 65,535 B.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).expect("public keys and signatures are shorter than 64 KiB");
    let [high, low] = len.to_be_bytes();
    let length: &[u8] = match len {
        ..0x80 => &[low],
        0x80..0x100 => &[0x81, low],
        0x100.. => &[0x82, high, low],
    };
    [&[tag], length, content].concat()
}

/// A positive INTEGER of big-endian bytes.
pub(crate) fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let digits = &bytes[start..];
    let sign: &[u8] = if digits.first().is_none_or(|byte| *byte >= 0x80) {
        &[0]
    } else {
        &[]
    };
    tlv(INTEGER, &[sign, digits].concat())
}

/// Content of the element at the start of `der`, which must have `tag`, and what follows it. Lengths of more than two bytes and
/// those that are longer than they must be are refused.
pub(crate) fn read(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, der) = der.split_first()?;
    let (first, der) = der.split_first()?;
    let (len, der) = match (*first, der) {
        (len, _) if len < 0x80 => (usize::from(len), der),
        (0x81, [len, der @ ..]) if *len >= 0x80 => (usize::from(*len), der),
        (0x82, [high, low, der @ ..]) if *high > 0 => (usize::from(u16::from_be_bytes([*high, *low])), der),
        _ => return None,
    };
    (*found == tag && len <= der.len()).then(|| der.split_at(len))
}

/// The ASN.1 form of an ECDSA signature, from the r || s that tokens give; `None` if there are not two halves.
pub fn ecdsa_asn1(signature: &[u8]) -> Option<Vec<u8>> {
    let half = signature.len() / 2;
    (half > 0 && signature.len() == 2 * half).then(|| {
        let (r, s) = signature.split_at(half);
        tlv(SEQUENCE, &[integer(r), integer(s)].concat())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_they_are_written_and_no_other_way() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1234] {
            let content = vec![7; length];
            let der = tlv(SEQUENCE, &content);
            assert_eq!(read(SEQUENCE, &der), Some((&content[..], &[][..])));
            assert_eq!(read(INTEGER, &der), None);
            assert_eq!(read(SEQUENCE, &der[..der.len() - 1]), None);
        }
        assert_eq!(read(SEQUENCE, &[0x30, 0x81, 0x01, 0x00]), None);
        assert_eq!(read(SEQUENCE, &[0x30, 0x80, 0x00, 0x00]), None);
    }

    #[test]
    fn integers_are_positive_and_minimal() {
        assert_eq!(integer(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[]), [2, 1, 0]);
        assert_eq!(
            ecdsa_asn1(&[0, 1, 0xff, 0]),
            Some(vec![0x30, 8, 2, 1, 1, 2, 3, 0, 0xff, 0])
        );
        assert_eq!(ecdsa_asn1(&[1, 2, 3]), None);
    }
}
