//! How far a large file is, on a terminal only.

use std::{
    fs::File,
    io::{IsTerminal, Read, stderr},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Smaller files are done before anyone looks.
const LARGE: u64 = 64 << 20;

/// `input`, whose reading shows on standard error if that is a terminal.
pub fn shown(input: File, name: &str) -> Box<dyn Read + Send> {
    let length = input.metadata().map_or(0, |metadata| metadata.len());
    let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    match style {
        Ok(style) if length >= LARGE && stderr().is_terminal() => {
            let bar = ProgressBar::new(length).with_style(style).with_message(name.to_owned());
            Box::new(bar.wrap_read(input))
        }
        _ => Box::new(input),
    }
}
