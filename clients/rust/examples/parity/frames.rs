//! Frames on a pipe: a u32 length in network order, then fields, each with its own.

use std::io::{self, Read};

use crate::Failure;

/// The fields of the next frame; `None` if the input ended between two.
pub fn read(input: &mut impl Read) -> Result<Option<Vec<Vec<u8>>>, Failure> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    input.read_exact(&mut frame)?;
    let (mut fields, mut rest) = (Vec::new(), &frame[..]);
    while let Some((length, after)) = rest.split_first_chunk() {
        let field = after.split_at_checked(u32::from_be_bytes(*length) as usize);
        let (field, after) = field.ok_or("a field is longer than its frame")?;
        fields.push(field.to_vec());
        rest = after;
    }
    Ok(Some(fields))
}

/// The frame of some fields.
pub fn frame(fields: &[Vec<u8>]) -> Result<Vec<u8>, Failure> {
    let length: usize = fields.iter().map(|field| 4 + field.len()).sum();
    let mut frame = u32::try_from(length)?.to_be_bytes().to_vec();
    for field in fields {
        frame.extend_from_slice(&u32::try_from(field.len())?.to_be_bytes());
        frame.extend_from_slice(field);
    }
    Ok(frame)
}
