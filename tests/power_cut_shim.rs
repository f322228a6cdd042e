//! The power-cut shim loses what was not synced, keeps what was, and shows a sync left out.
//!
//! Each test starts this program again as a writer under the shim (`writer`, below), kills it with SIGKILL when
//! it has done its steps, cuts the power, and looks at what is left.

#![allow(clippy::unwrap_used)] // all of this file is a test

#[path = "support/power_cut.rs"]
mod power_cut;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use power_cut::PowerCut;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row};
use tempfile::TempDir;

const STEPS: &str = "KEYREEVE_TEST_POWER_CUT_STEPS";
const DONE: &str = "steps done";

#[test]
fn a_write_without_sync_is_lost() {
    let tree = tree_with("file", "old");
    let power = PowerCut::over(tree.path());
    write_and_kill(&power, "write file new");
    assert_eq!(read(&tree, "file"), "new", "SIGKILL alone loses nothing");
    assert_eq!(power.cut(), ["unsynced writes to file"]);
    assert_eq!(read(&tree, "file"), "old");
}

#[test]
fn a_write_with_sync_is_kept() {
    let tree = tree_with("file", "old");
    let power = PowerCut::over(tree.path());
    write_and_kill(&power, "write file new; sync file");
    assert_eq!(power.cut(), [""; 0]);
    assert_eq!(read(&tree, "file"), "new");
}

#[test]
fn a_write_after_the_sync_is_lost_and_the_one_before_is_kept() {
    let tree = tree_with("file", "");
    let power = PowerCut::over(tree.path());
    write_and_kill(
        &power,
        "resize file 8192; write_at file 0 first; write_at file 4096 other; sync file; write_at file 0 later",
    );
    power.cut();
    let left = fs::read(tree.path().join("file")).unwrap();
    assert_eq!(
        (left.len(), &left[..5], &left[4096..4101]),
        (8192, &b"first"[..], &b"other"[..])
    );
}

#[test]
fn an_append_without_sync_is_lost() {
    let tree = tree_with("file", "one ");
    let power = PowerCut::over(tree.path());
    write_and_kill(&power, "append file two_; sync file; append file three");
    power.cut();
    assert_eq!(read(&tree, "file"), "one two_");
}

#[test]
fn a_truncation_without_sync_is_undone() {
    let tree = tree_with("file", "0123456789");
    let power = PowerCut::over(tree.path());
    write_and_kill(&power, "resize file 2; resize file 10");
    power.cut();
    assert_eq!(read(&tree, "file"), "0123456789");
}

#[test]
fn a_synced_truncation_leaves_no_old_bytes_when_the_file_grows_again() {
    let tree = tree_with("file", "0123456789");
    let power = PowerCut::over(tree.path());
    write_and_kill(&power, "resize file 2; resize file 10; sync file");
    power.cut();
    assert_eq!(read(&tree, "file"), "01\0\0\0\0\0\0\0\0");
}

#[test]
fn a_new_file_needs_the_sync_of_its_directory() {
    let tree = tempfile::tempdir().unwrap();
    let power = PowerCut::over(tree.path());
    write_and_kill(&power, "write kept text; sync kept; sync .; write lost text; sync lost");
    power.cut();
    assert_eq!(
        (read(&tree, "kept").as_str(), tree.path().join("lost").exists()),
        ("text", false)
    );
}

#[test]
fn a_new_file_of_a_synced_directory_is_empty_without_its_own_sync() {
    let tree = tempfile::tempdir().unwrap();
    let power = PowerCut::over(tree.path());
    write_and_kill(&power, "write file text; sync .");
    power.cut();
    assert_eq!(read(&tree, "file"), "");
}

#[test]
fn a_file_in_a_new_directory_needs_both_directories_synced() {
    for (steps, there) in [
        ("sync folder/file; sync folder; sync .", true),
        ("sync folder/file; sync folder", false),
    ] {
        let tree = tempfile::tempdir().unwrap();
        let power = PowerCut::over(tree.path());
        write_and_kill(&power, &format!("mkdir folder; write folder/file text; {steps}"));
        power.cut();
        assert_eq!(tree.path().join("folder/file").exists(), there, "{steps}");
    }
}

#[test]
fn a_rename_or_removal_without_sync_of_the_directory_is_undone() {
    for (sync, left) in [
        ("", ["moved", "removed"].as_slice()),
        ("; sync .", ["moved_to"].as_slice()),
    ] {
        let tree = tree_with("moved", "text");
        fs::write(tree.path().join("removed"), "text").unwrap();
        let power = PowerCut::over(tree.path());
        write_and_kill(&power, &format!("rename moved moved_to; remove removed{sync}"));
        power.cut();
        let mut names: Vec<_> = fs::read_dir(&tree)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, left, "after the steps{sync}");
        assert!(left.iter().all(|name| read(&tree, name) == "text"));
    }
}

#[test]
fn replacing_a_file_over_and_over_keeps_the_last_synced_one() {
    let tree = tree_with("file", "0");
    let power = PowerCut::over(tree.path());
    let replace = |n: u32| format!("write new {n}; sync new; rename new file");
    let steps: Vec<String> = (1..=30).map(|n| format!("{}; sync .", replace(n))).collect();
    write_and_kill(
        &power,
        &format!("{}; {}; {}", steps.join("; "), replace(31), replace(32)),
    );
    assert_eq!(read(&tree, "file"), "32");
    power.cut();
    assert_eq!(read(&tree, "file"), "30");
}

#[test]
fn a_new_file_is_not_taken_for_the_removed_one_whose_inode_it_got() {
    // Several rounds: only in some does the new file come within the clock tick that birth times count in.
    for _ in 0..10 {
        let tree = tempfile::tempdir().unwrap();
        let power = PowerCut::over(tree.path());
        write_and_kill(
            &power,
            "write old old; sync old; sync .; remove old; write new new; sync new",
        );
        power.cut();
        assert_eq!(read(&tree, "old"), "old");
    }
}

#[test]
fn what_one_process_wrote_another_may_sync() {
    let tree = tree_with("file", "old");
    let power = PowerCut::over(tree.path());
    write_and_kill(&power, "write file new");
    write_and_kill(&power, "sync file");
    power.cut();
    assert_eq!(read(&tree, "file"), "new");
}

#[test]
fn after_a_cut_the_next_one_starts_from_what_was_left() {
    let tree = tree_with("file", "old");
    let power = PowerCut::over(tree.path());
    write_and_kill(&power, "write file lost");
    power.cut();
    write_and_kill(&power, "append file +more; sync file; append file +lost");
    power.cut();
    assert_eq!(read(&tree, "file"), "old+more");
}

#[test]
fn an_ignored_sync_loses_what_it_should_have_kept() {
    let tree = tree_with("file", "old");
    let power = PowerCut::over(tree.path()).ignoring_sync("fi*");
    write_and_kill(&power, "write file new; sync file");
    assert_eq!(power.ignored(), ["file"]);
    power.cut();
    assert_eq!(read(&tree, "file"), "old");
}

#[test]
fn a_seed_tears_unsynced_writes_and_spares_synced_ones() {
    let (old, new) = ("o".repeat(64 * 512), "n".repeat(64 * 512));
    let tree = tree_with("file", &old);
    fs::write(tree.path().join("synced"), &old).unwrap();
    let power = PowerCut::over(tree.path());
    write_and_kill(
        &power,
        &format!("write_at file 0 {new}; write_at synced 0 {new}; sync synced"),
    );
    power.cut_keeping_some(7);
    let left = read(&tree, "file");
    let sectors: Vec<&str> = (0..64).map(|n| &left[n * 512..(n + 1) * 512]).collect();
    assert!(
        sectors
            .iter()
            .all(|sector| *sector == &old[..512] || *sector == &new[..512]),
        "only whole sectors"
    );
    assert!(
        left.contains('o') && left.contains('n'),
        "some of the old and some of the new"
    );
    assert_eq!(read(&tree, "synced"), new);
}

#[tokio::test]
async fn what_sqlite_committed_is_kept_and_lost_without_its_syncs() {
    for (ignored, rows) in [(None, 5), (Some("*-wal"), 0)] {
        let tree = tempfile::tempdir().unwrap();
        let database = tree.path().join("store.db");
        let mut connection = connect(&database).await;
        sqlx::query("CREATE TABLE rows (number INTEGER)")
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        let mut power = PowerCut::over(tree.path());
        if let Some(pattern) = ignored {
            power = power.ignoring_sync(pattern);
        }
        write_and_kill(&power, "insert store.db 5");
        assert_eq!(power.ignored().is_empty(), ignored.is_none());
        power.cut();
        let mut connection = connect(&database).await;
        let count = sqlx::query("SELECT count(*) FROM rows")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(count.get::<i64, _>(0), rows, "ignoring {ignored:?}");
        let check = sqlx::query("PRAGMA integrity_check")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(check.get::<String, _>(0), "ok");
    }
}

/// The other side: does the steps that the environment names, then waits to be killed. Run as a test of its own
/// it has no steps, and shows that the steps by themselves do what they say.
#[tokio::test]
async fn writer() {
    let Ok(steps) = std::env::var(STEPS) else {
        let tree = tempfile::tempdir().unwrap();
        take_steps(
            tree.path(),
            "write file abc; append file def; write_at file 1 X; resize file 5; sync file",
        )
        .await;
        assert_eq!(read(&tree, "file"), "aXcde");
        return;
    };
    take_steps(Path::new(&std::env::var("POWER_CUT_TREE").unwrap()), &steps).await;
    println!("{DONE}");
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

async fn take_steps(tree: &Path, steps: &str) {
    for step in steps.split("; ") {
        let words: Vec<&str> = step.split(' ').collect();
        let path = tree.join(words[1]);
        let open = || OpenOptions::new().write(true).open(&path).unwrap();
        match (words[0], &words[2..]) {
            ("write", [text]) => fs::write(&path, text).unwrap(),
            ("append", [text]) => write!(OpenOptions::new().append(true).open(&path).unwrap(), "{text}").unwrap(),
            ("write_at", [offset, text]) => open().write_all_at(text.as_bytes(), offset.parse().unwrap()).unwrap(),
            ("resize", [size]) => open().set_len(size.parse().unwrap()).unwrap(),
            ("sync", []) if path.is_dir() => File::open(&path).unwrap().sync_all().unwrap(),
            ("sync", []) => open().sync_data().unwrap(),
            ("mkdir", []) => fs::create_dir(&path).unwrap(),
            ("rename", [to]) => fs::rename(&path, tree.join(to)).unwrap(),
            ("remove", []) => fs::remove_file(&path).unwrap(),
            ("insert", [rows]) => insert(&path, rows.parse().unwrap()).await,
            _ => panic!("no such step: {step}"),
        }
    }
}

async fn insert(database: &Path, rows: i64) {
    let mut connection = connect(database).await;
    for number in 0..rows {
        sqlx::query("INSERT INTO rows VALUES (?)")
            .bind(number)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    // Closing would move the rows from the log into the database.
    std::mem::forget(connection);
}

async fn connect(database: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(database).create_if_missing(true);
    let options = options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    options.connect().await.unwrap()
}

fn write_and_kill(power: &PowerCut, steps: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "writer", "--nocapture"])
        .envs(power.environment())
        .env(STEPS, steps);
    let mut writer = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let done = lines.map_while(Result::ok).any(|line| line.contains(DONE));
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(done, "the writer did not reach its last step");
}

fn tree_with(name: &str, text: &str) -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join(name), text).unwrap();
    tree
}

fn read(tree: &TempDir, name: &str) -> String {
    fs::read_to_string(tree.path().join(name)).unwrap()
}
