//! Sessions at the command line, as transcripts: `tests/cli/*.md`, in order of name, against one server of `keyreeve dev`.
//!
//! A line `$ command`, with those after it that start with `> `, is run by bash, and what follows it, up to the next, is what it must say, both
//! streams together; `…` stands for anything within a line, `[…]` for any lines, `[exit N]` for an exit code other than 0. After a prompt
//! `name$ ` the configuration is `name/keyreeve.toml`. Files whose name ends in `.stopped.md` run with the server stopped.

#![allow(clippy::unwrap_used)] // a test stops at the first surprise

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_keyreeve");

#[test]
fn the_sessions_go_as_written() {
    let place = tempfile::tempdir().unwrap();
    let mut server = Some(Server::start(place.path()));
    let sessions = sessions();
    assert!(sessions.len() >= 4, "the transcripts were not found");
    for session in sessions {
        let stopped = session.to_str().unwrap().ends_with(".stopped.md");
        if stopped {
            server.take();
        } else if server.is_none() {
            server = Some(Server::start(place.path()));
        }
        play(&session, place.path());
    }
}

/// A ceremony needs tokens and hosts of its own, and no server. Its group goes on: a token breaks, another is lost.
#[test]
fn a_ceremony_and_a_replacement_go_as_they_are_written() {
    let place = tempfile::tempdir().unwrap();
    let runbooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    play(&runbooks.join("rehearse-a-ceremony.md"), place.path());
    let said = run(REPLACEMENT, place.path());
    assert!(said.is_empty(), "{said}");
    play(&runbooks.join("replace-a-token.md"), place.path());
}

/// After the rehearsal the hosts have the names of `replace-a-token.md`, and what it writes in capitals is said by `said`: serials of
/// tokens, the hash of the newest manifest.
const REPLACEMENT: &str = r#"
set -e
for token in new spare; do
    softhsm2-util --init-token --free --label $token --so-pin 73155920 --pin 648219 >init.log
    mkdir $token
    sed "s|label = \"c\"|label = \"$token\"|; s|$PWD/c/|$PWD/$token/|" c/keyreeve.toml >$token/keyreeve.toml
done
mv r offline
sed -i "s|$PWD/r/|$PWD/offline/|" offline/keyreeve.toml
mkdir server
cp manifest-4.json server/token.json
cp manifest-4.json.signatures server/token.json.signatures
sed "s|$PWD/a/token.json|$PWD/server/token.json|; s|label = \"c\"|label = \"old\"|" both.toml >server/keyreeve.toml
cat >>env <<'END'
said() {
    case $1 in
        HEX) sha256sum <$(ls manifest-?.json | tail -n 1) | cut -c 1-64; return ;;
        OLD) file=c.enrol ;;
        SERVER) file=a.enrol ;;
        RECOVERY) file=r.enrol ;;
        LOST) file=new.enrol ;;
        NEW | SPARE) file=${1,,}.enrol ;;
    esac
    keyreeve ceremony show $file -o json | sed -n 's/.*"serial": "\(.*\)".*/\1/p'
}
END
"#;

#[test]
fn a_difference_is_seen() {
    assert!(matches("key…  ACTIVE", "key 1  ACTIVE"));
    assert!(matches("…", ""));
    assert!(!matches("key…  ACTIVE", "key 1  SUSPENDED"));
    assert!(!matches("ACTIVE", "ACTIVE "));
    assert!(!matches("a…b", "acb c"));
    assert!(all_match(&["[…]", "end"], &["a", "b", "end"]));
    assert!(all_match(&["[…]", "end"], &["end"]));
    assert!(!all_match(&["[…]", "end"], &["a", "end", "b"]));
    assert!(!all_match(&["a"], &[]));
    assert_eq!(
        on_host("new$ enrol SERIAL-OF-OLD").unwrap(),
        "export KEYREEVE_CONFIG=new/keyreeve.toml; enrol $(said OLD)"
    );
    assert_eq!(on_host("price: 5 $ a piece"), None);
}

/// `keyreeve dev`, stopped when dropped.
struct Server(Child);

impl Server {
    fn start(place: &Path) -> Self {
        let child = Command::new(PROGRAM)
            .args([
                "dev",
                "--keep",
                "--listen",
                "127.0.0.1:0",
                "--local",
                "127.0.0.1:0",
                "--dir",
            ])
            .arg(place.join("dev"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Owned at once: a server that does not come up is ended as well.
        let mut server = Self(child);
        let mut said = String::new();
        let mut lines = BufReader::new(server.0.stderr.take().unwrap()).lines();
        for line in &mut lines {
            said.push_str(&line.unwrap());
            said.push('\n');
            if said.contains("Ctrl-C ends the server") {
                // Goes on reading, so that the server never waits for room in the pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return server;
            }
        }
        panic!("the server did not start:\n{said}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let told = Command::new("kill").arg(&pid).status();
        assert!(told.is_ok_and(|told| told.success()), "process {pid} is gone");
        let ended = self.0.wait();
        if !std::thread::panicking() {
            assert!(
                ended.is_ok_and(|ended| ended.success()),
                "the server did not stop cleanly"
            );
        }
    }
}

fn sessions() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    files
}

/// Runs each command of a transcript in `place` and compares.
fn play(session: &Path, place: &Path) {
    let text = fs::read_to_string(session).unwrap();
    let mut steps: Vec<(String, Vec<&str>)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if inside && let Some(command) = on_host(line) {
            steps.push((command, Vec::new()));
        } else if inside
            && let Some(more) = line.strip_prefix("> ")
            && let Some((command, _)) = steps.last_mut().filter(|(_, expected)| expected.is_empty())
        {
            command.push('\n');
            command.push_str(more);
        } else if inside && let Some((_, expected)) = steps.last_mut() {
            expected.push(line);
        }
    }
    assert!(!steps.is_empty(), "{} has no commands", session.display());
    for (command, expected) in steps {
        let said = run(&command, place);
        let said: Vec<&str> = said.lines().collect();
        assert!(
            all_match(&expected, &said),
            "{}\n$ {command}\nexpected:\n{}\nsaid:\n{}",
            session.display(),
            expected.join("\n"),
            said.join("\n")
        );
    }
}

/// The command of a line that begins with a prompt.
fn on_host(line: &str) -> Option<String> {
    let (host, command) = line.split_once("$ ")?;
    if host.is_empty() {
        return Some(command.to_owned());
    }
    if !host.chars().all(|c| c.is_ascii_lowercase()) {
        return None;
    }
    let words = command.split(' ').map(|word| match word.split_once("SERIAL-OF-") {
        Some((before, after)) => {
            let end = after.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(after.len());
            format!("{before}$(said {}){}", &after[..end], &after[end..])
        }
        None if word == "HEX" => "$(said HEX)".to_owned(),
        None => word.to_owned(),
    });
    let words: Vec<_> = words.collect();
    Some(format!(
        "export KEYREEVE_CONFIG={host}/keyreeve.toml; {}",
        words.join(" ")
    ))
}

fn run(command: &str, place: &Path) -> String {
    let program = Path::new(PROGRAM).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let script = format!("for env in dev/env env; do [ -f $env ] && . ./$env; done; exec 2>&1; {command}");
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(place)
        .env("PATH", path)
        .env("COLUMNS", "110")
        .output()
        .unwrap();
    let mut said = String::from_utf8(output.stdout).unwrap();
    if let Some(code) = output.status.code().filter(|code| *code != 0) {
        if !said.is_empty() && !said.ends_with('\n') {
            said.push('\n');
        }
        said.push_str(&format!("[exit {code}]\n"));
    }
    said
}

fn all_match(expected: &[&str], said: &[&str]) -> bool {
    match (expected.split_first(), said.split_first()) {
        (None, said) => said.is_none(),
        (Some((&"[…]", expected)), _) => (0..=said.len()).any(|skipped| all_match(expected, &said[skipped..])),
        (Some((line, expected)), Some((said, rest))) => matches(line, said) && all_match(expected, rest),
        (Some(_), None) => false,
    }
}

/// Whether `said` is `line`, with `…` standing for anything.
fn matches(line: &str, said: &str) -> bool {
    let mut parts = line.split('…');
    let Some(mut rest) = said.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
