//! The paths that a Rust source names: a small reader of `use` trees and of paths that begin with `crate` or `super`.

/// One file, read.
pub struct Source {
    /// Below `src/`: `policy/gate.rs`.
    pub name: String,
    /// `policy`, `gate`; nothing for main.rs and lib.rs.
    pub module: Vec<String>,
    /// Paths from the crate's root.
    pub paths: Vec<Named>,
    /// First words of paths that leave the crate, or may.
    pub crates: Vec<(String, usize)>,
    /// Lines of `.release(` and `Recorded::release`; of `Caller::job`; of `unsafe`.
    pub releases: Vec<usize>,
    pub jobs: Vec<usize>,
    pub unsafes: Vec<usize>,
    /// Modules compiled for tests only: `policy/set/tests`.
    pub test_modules: Vec<String>,
}

/// One path, and where.
pub struct Named {
    pub names: Vec<String>,
    pub line: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

impl Source {
    pub fn parse(name: &str, text: &str) -> Self {
        let module: Vec<String> = name
            .trim_end_matches(".rs")
            .split('/')
            .filter(|part| !matches!(*part, "mod" | "lib" | "main"))
            .map(str::to_owned)
            .collect();
        let mut source = Self {
            name: name.to_owned(),
            module,
            paths: Vec::new(),
            crates: Vec::new(),
            releases: Vec::new(),
            jobs: Vec::new(),
            unsafes: Vec::new(),
            test_modules: Vec::new(),
        };
        let tokens = source.without_tests(tokens(text));
        source.read(&tokens);
        source
    }

    /// Whether the file is the module `test` or below it.
    pub fn is_in(&self, test: &str) -> bool {
        let module = self.module.join("/");
        module == test || module.starts_with(&format!("{test}/"))
    }

    /// Whether the file, or its topmost module, is listed.
    pub fn is_one_of(&self, allowed: &[&str]) -> bool {
        let top = self.module.first().map_or("main", String::as_str);
        allowed.iter().any(|entry| *entry == self.name || *entry == top)
    }

    /// Leaves out each item under `#[cfg(test)]`, and notes test modules that have files of their own.
    fn without_tests(&mut self, tokens: Vec<Token>) -> Vec<Token> {
        const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        let mut kept = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let marked = MARK
                .iter()
                .enumerate()
                .all(|(n, word)| tokens.get(at + n).is_some_and(|t| t.text == *word));
            if !marked {
                kept.push(tokens[at].clone());
                at += 1;
                continue;
            }
            at += MARK.len();
            let mut depth = 0;
            let start = at;
            while let Some(token) = tokens.get(at) {
                at += 1;
                match token.text.as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
                if depth == 0 && matches!(token.text.as_str(), ";" | "}") {
                    break;
                }
            }
            let item = &tokens[start..at];
            if let [.., word, name, end] = item
                && word.text == "mod"
                && end.text == ";"
            {
                let mut module = self.module.clone();
                module.push(name.text.clone());
                self.test_modules.push(module.join("/"));
            }
        }
        kept
    }

    fn read(&mut self, tokens: &[Token]) {
        let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
        let mut at = 0;
        while at < tokens.len() {
            let line = tokens[at].line;
            let follows_path = at >= 1 && word(at - 1) == "::";
            match word(at) {
                "use" => {
                    at = self.tree(tokens, at + 1, &[]);
                    continue;
                }
                "crate" | "super" if !follows_path && word(at + 1) == "::" => {
                    at = self.tree(tokens, at, &[]);
                    continue;
                }
                "unsafe" => self.unsafes.push(line),
                "release" if matches!(word(at.wrapping_sub(1)), ".") && word(at + 1) == "(" => self.releases.push(line),
                "release" if follows_path && word(at.wrapping_sub(2)) == "Recorded" => self.releases.push(line),
                "job" if follows_path && word(at.wrapping_sub(2)) == "Caller" => self.jobs.push(line),
                first if !follows_path && word(at + 1) == "::" => self.crates.push((first.to_owned(), line)),
                _ => {}
            }
            at += 1;
        }
    }

    /// Reads one path or use tree that begins at `at`; gives the place behind it.
    fn tree(&mut self, tokens: &[Token], mut at: usize, before: &[String]) -> usize {
        let mut names = before.to_vec();
        let line = tokens.get(at).map_or(0, |token| token.line);
        while let Some(token) = tokens.get(at) {
            match token.text.as_str() {
                "::" => at += 1,
                "{" => {
                    at += 1;
                    while tokens.get(at).is_some_and(|token| token.text != "}") {
                        at = self.tree(tokens, at, &names);
                        if tokens.get(at).is_some_and(|token| token.text == ",") {
                            at += 1;
                        }
                    }
                    return at + 1;
                }
                text => {
                    names.push(text.to_owned());
                    at += 1;
                    if tokens.get(at).is_none_or(|token| token.text != "::") {
                        break;
                    }
                }
            }
        }
        if tokens.get(at).is_some_and(|token| token.text == "as") {
            at += 2;
        }
        self.note(names, line);
        at
    }

    fn note(&mut self, names: Vec<String>, line: usize) {
        if let [.., of, name] = &names[..] {
            match (of.as_str(), name.as_str()) {
                ("Recorded", "release") => self.releases.push(line),
                ("Caller", "job") => self.jobs.push(line),
                _ => {}
            }
        }
        let supers = names.iter().take_while(|name| *name == "super").count();
        match names.first().map(String::as_str) {
            Some("crate") => self.paths.push(Named {
                names: names[1..].to_vec(),
                line,
            }),
            Some("super") => {
                let keep = self.module.len().saturating_sub(supers);
                let mut absolute = self.module[..keep].to_vec();
                absolute.extend_from_slice(&names[supers..]);
                self.paths.push(Named { names: absolute, line });
            }
            Some(first) => self.crates.push((first.to_owned(), line)),
            None => {}
        }
    }
}

/// Words and marks, `::` as one; comments, texts, characters and lifetimes left out.
fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at += 2;
                while at < bytes.len() && !bytes[at..].starts_with(b"*/") {
                    at += 1;
                }
                at += 2;
            }
            b'r' if raw_text(&bytes[at..]).is_some() => at += raw_text(&bytes[at..]).unwrap_or(1),
            b'b' if raw_text(&bytes[at + 1..]).is_some() => at += 1 + raw_text(&bytes[at + 1..]).unwrap_or(1),
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'\'' if bytes.get(at + 1) == Some(&b'\\') => {
                at += 3;
                while at < bytes.len() && bytes[at] != b'\'' {
                    at += 1;
                }
                at += 1;
            }
            b'\'' if text[at + 1..].chars().nth(1) == Some('\'') => {
                at += 2 + text[at + 1..].chars().next().map_or(0, char::len_utf8);
            }
            byte if is_word(byte) => {
                while at < bytes.len() && is_word(bytes[at]) {
                    at += 1;
                }
                tokens.push(Token {
                    text: text[start..at].to_owned(),
                    line,
                });
            }
            b':' if bytes.get(at + 1) == Some(&b':') => {
                at += 2;
                tokens.push(Token {
                    text: "::".to_owned(),
                    line,
                });
            }
            byte => {
                at += 1;
                if byte.is_ascii_punctuation() && byte != b'\'' {
                    tokens.push(Token {
                        text: (byte as char).to_string(),
                        line,
                    });
                }
            }
        }
        at = at.min(bytes.len());
        line += bytes[start..at].iter().filter(|byte| **byte == b'\n').count();
    }
    tokens
}

/// Length of the raw text that `bytes` begins with.
fn raw_text(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.strip_prefix(b"r")?;
    let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
    if rest.get(hashes) != Some(&b'"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = &rest[hashes + 1..];
    let length = body.windows(end.len()).position(|window| window == end.as_bytes())?;
    Some(1 + hashes + 1 + length + end.len())
}
