use std::fs;

use super::*;
use crate::sealing::double::{ARCHIVE, Double, ORDERS, context, plaintext};

const LENGTH: usize = 700_000;

struct Fixture {
    directory: tempfile::TempDir,
    sealer: Sealer,
    opener: Opener,
}

impl Fixture {
    fn new() -> Self {
        let double = Double::new();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("plain"), plaintext(LENGTH)).unwrap();
        Self {
            directory,
            sealer: Sealer::new(double.clone(), ORDERS),
            opener: Opener::new(double, ORDERS),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    /// Names of all files, temporary ones too.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    async fn seal(&self) -> Identity {
        let (from, to) = (self.path("plain"), self.path("sealed"));
        self.sealer.seal_file(from, to, &context(&[])).await.unwrap()
    }
}

fn expected() -> Expectation {
    Expectation::context(context(&[]))
}

#[tokio::test]
async fn a_file_is_sealed_opened_for_its_owner_alone_and_wrapped_anew() {
    let fixture = Fixture::new();
    let identity = fixture.seal().await;
    let (from, to) = (fixture.path("sealed"), fixture.path("opened"));
    fs::write(&to, "old").unwrap();
    fs::set_permissions(&to, Permissions::from_mode(0o644)).unwrap();
    let expected = expected().identity(identity);
    assert_eq!(fixture.opener.open_file(&from, &to, &expected).await.unwrap(), identity);
    assert!(fs::read(&to).unwrap() == plaintext(LENGTH));
    assert_eq!(fixture.mode("opened"), 0o600);

    fs::set_permissions(&from, Permissions::from_mode(0o640)).unwrap();
    let before = fs::read(&from).unwrap();
    fixture
        .opener
        .rewrap_file(&from, &expected, &[ARCHIVE], Existing::Keep)
        .await
        .unwrap();
    let after = fs::read(&from).unwrap();
    assert!(after.len() == before.len() + 160 && after.ends_with(&before[before.len() - LENGTH..]));
    assert_eq!(fixture.mode("sealed"), 0o640);
    fixture.opener.open_file(&from, &to, &expected).await.unwrap();
    assert_eq!(fixture.names(), ["opened", "plain", "sealed"]);
}

#[tokio::test]
async fn a_file_that_does_not_open_leaves_no_plaintext_and_the_old_file() {
    let fixture = Fixture::new();
    fixture.seal().await;
    let (from, to) = (fixture.path("sealed"), fixture.path("opened"));
    fs::write(&to, "old").unwrap();
    let mut sealed = fs::read(&from).unwrap();
    *sealed.last_mut().unwrap() ^= 1;
    fs::write(&from, &sealed).unwrap();
    let error = fixture.opener.open_file(&from, &to, &expected()).await.err().unwrap();
    assert_eq!(error.reason, "DECRYPT_FAILED");
    assert_eq!(fs::read(&to).unwrap(), b"old");
    assert_eq!(fixture.names(), ["opened", "plain", "sealed"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_made_or_read_is_named() {
    let fixture = Fixture::new();
    fixture.seal().await;
    for (from, to) in [("absent", "x"), ("sealed", "absent/x")] {
        let (from, to) = (fixture.path(from), fixture.path(to));
        let error = fixture.opener.open_file(from, to, &expected()).await.err().unwrap();
        assert!(error.reason == "IO" && error.message.contains("absent"), "{error}");
    }
    // A directory in the way of the name.
    fs::create_dir(fixture.path("taken")).unwrap();
    let (from, to) = (fixture.path("plain"), fixture.path("taken"));
    assert!(fixture.sealer.seal_file(from, to, &context(&[])).await.is_err());
    assert_eq!(fixture.names(), ["plain", "sealed", "taken"]);
}

#[tokio::test]
async fn a_file_that_is_wrapped_anew_through_a_link_stays_behind_it() {
    let fixture = Fixture::new();
    fixture.seal().await;
    fs::create_dir(fixture.path("elsewhere")).unwrap();
    fs::rename(fixture.path("sealed"), fixture.path("elsewhere/target")).unwrap();
    std::os::unix::fs::symlink("elsewhere/target", fixture.path("sealed")).unwrap();
    let before = fs::metadata(fixture.path("sealed")).unwrap();
    fixture
        .opener
        .rewrap_file(fixture.path("sealed"), &expected(), &[ARCHIVE], Existing::Keep)
        .await
        .unwrap();
    assert!(fs::symlink_metadata(fixture.path("sealed")).unwrap().is_symlink());
    let after = fs::symlink_metadata(fixture.path("elsewhere/target")).unwrap();
    assert!(after.is_file() && after.len() == before.len() + 160);
}

#[tokio::test]
async fn a_file_that_is_wrapped_anew_keeps_its_owner_where_that_is_allowed() {
    let fixture = Fixture::new();
    fixture.seal().await;
    let sealed = fixture.path("sealed");
    if std::os::unix::fs::chown(&sealed, Some(12_345), Some(54_321)).is_err() {
        eprintln!("not tried: files cannot be given away without root's rights");
        return;
    }
    fs::set_permissions(&sealed, Permissions::from_mode(0o640)).unwrap();
    fixture
        .opener
        .rewrap_file(&sealed, &expected(), &[ARCHIVE], Existing::Keep)
        .await
        .unwrap();
    let after = fs::metadata(&sealed).unwrap();
    assert_eq!(
        (after.uid(), after.gid(), after.mode() & 0o777),
        (12_345, 54_321, 0o640)
    );
}

/// A pipe stands for a file on a slow disk: its front comes when the other tasks of the only thread have gone on, or not at all.
#[tokio::test]
async fn a_slow_file_holds_up_no_other_task() {
    let fixture = Fixture::new();
    fixture.seal().await;
    let (sealed, pipe) = (fs::read(fixture.path("sealed")).unwrap(), fixture.path("pipe"));
    rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let feeder = {
        let pipe = pipe.clone();
        std::thread::spawn(move || {
            let went_on = told.recv_timeout(std::time::Duration::from_secs(5)).is_ok();
            fs::write(pipe, sealed).unwrap();
            went_on
        })
    };
    let expected = expected();
    let opening = fixture.opener.open_file(pipe, fixture.path("opened"), &expected);
    let (opened, ()) = tokio::join!(opening, async { tell.send(()).unwrap() });
    opened.unwrap();
    assert!(feeder.join().unwrap(), "the other task waited for the file");
}

#[test]
fn a_name_that_cannot_be_made_to_last_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("sealed");
    let error = NewFile::sealed(&target)
        .unwrap()
        .publish_and(|synced| {
            assert!(synced == directory.path() && target.exists(), "it has its name by then");
            Err(io::Error::other("the disk is gone"))
        })
        .unwrap_err();
    assert!(
        error.reason == "IO" && error.message.contains("the disk is gone"),
        "{error}"
    );
    sync_directory(directory.path()).unwrap();
    assert!(sync_directory(&directory.path().join("absent")).is_err());
}

/// What kills the process meanwhile leaves nothing, since there is no name to leave.
#[test]
fn a_file_that_is_being_made_has_no_name_yet() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("opened");
    let new = NewFile::opened(&target).unwrap();
    io::Write::write_all(&mut new.as_file(), b"plaintext").unwrap();
    let entries = || fs::read_dir(directory.path()).unwrap().count();
    match new.file {
        Making::Unnamed(_) => assert_eq!(entries(), 0),
        Making::Named(_) => assert!(!target.exists(), "this file system has no unnamed files"),
    }
    new.publish().unwrap();
    assert_eq!((entries(), fs::read(&target).unwrap()), (1, b"plaintext".to_vec()));
    drop(NewFile::sealed(&target).unwrap());
    assert_eq!(entries(), 1);
}

#[test]
fn a_file_on_a_file_system_without_unnamed_files_is_made_beside_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("opened");
    let named = || NewFile {
        file: Making::Named(beside().tempfile_in(directory.path()).unwrap()),
        directory: directory.path().to_owned(),
        target: target.clone(),
    };
    drop(named());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    io::Write::write_all(&mut named().as_file(), b"lost").unwrap();
    let new = named();
    io::Write::write_all(&mut new.as_file(), b"kept").unwrap();
    new.publish().unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"kept");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}
