//! Data on standard output: a table for people, JSON for programs.

use std::io::{Write, stdout};

use clap::ValueEnum;
use prost_types::Timestamp;
use serde::Serialize;

use super::failure::{Failure, Outcome};

/// The choice of `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// An answer: serialised as it is for `-o json`.
pub trait Shown: Serialize {
    fn table(&self) -> Table;
}

/// Columns of text. Without headings: names on the left, values on the right.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(headings: [&'static str; N]) -> Self {
        Self {
            headings: headings.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Two columns, no headings.
    pub fn facts() -> Self {
        Self {
            headings: Vec::new(),
            rows: Vec::new(),
        }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) -> &mut Self {
        self.rows.push(cells.to_vec());
        self
    }

    pub fn fact(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.row([name.to_owned(), value.into()])
    }

    fn render(&self) -> String {
        let headings: Vec<String> = self.headings.iter().map(|heading| (*heading).to_owned()).collect();
        let lines: Vec<&Vec<String>> = Some(&headings)
            .filter(|headings| !headings.is_empty())
            .into_iter()
            .chain(&self.rows)
            .collect();
        let columns = lines.iter().map(|line| line.len()).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for line in lines {
            let padded = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{:width$}", printable(cell)))
                .collect::<Vec<_>>()
                .join("  ");
            text.push_str(padded.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Writes an answer in the format asked for.
pub fn print(format: Format, answer: &impl Shown) -> Outcome {
    match format {
        Format::Table => write(answer.table().render().as_bytes()),
        Format::Json => print_json(answer),
    }
}

/// Writes an answer that has no table.
pub fn print_json(answer: &impl Serialize) -> Outcome {
    let mut text = serde_json::to_vec_pretty(answer).map_err(Failure::failed)?;
    text.push(b'\n');
    write(&text)
}

/// Writes bytes to standard output, all of them.
pub fn write(bytes: &[u8]) -> Outcome {
    let mut out = stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::stdout(&error))
}

/// A note for people, on standard error. That nobody reads it is no failure.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// RFC 3339, or nothing.
pub fn time(time: &Option<Timestamp>) -> Option<String> {
    time.as_ref().map(Timestamp::to_string)
}

/// `yes` or `no`.
pub fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// A cell cannot steer the terminal or break its line, whatever text came back.
fn printable(cell: &str) -> String {
    cell.chars()
        .map(|character| if character.is_control() { '\u{fffd}' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_end_in_blanks() {
        let mut table = Table::new(["NAME", "STATE"]);
        table
            .row(["orders".into(), "Active".into()])
            .row(["a".into(), String::new()]);
        assert_eq!(table.render(), "NAME    STATE\norders  Active\na\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut table = Table::facts();
        table.fact("reason", "a\x1b[2Jb\nc");
        assert_eq!(table.render(), "reason  a\u{fffd}[2Jb\u{fffd}c\n");
    }
}
