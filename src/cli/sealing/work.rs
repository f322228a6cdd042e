//! One file or stream sealed or opened into another.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write, stdin, stdout},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use keyreeve_client::{
    ClientError, EncryptionContext, Expectation, Opener, Sealer,
    sealing::{files::NewFile, front::Front},
};

use super::{Failure, of_file, places::Job, progress};
use crate::cli::failure::Outcome;

pub async fn seal(sealer: &Sealer, context: &EncryptionContext, job: &Job) -> Outcome {
    if job.to.is_none() && stdout().is_terminal() {
        return Err(Failure::usage(
            "this is binary and standard output is a terminal: add --out FILE",
        ));
    }
    let name = name(job);
    let input = input(job)?;
    let message = sealer.begin(context).await?;
    into_place(job, NewFile::sealed, |output| message.stream(input, output).map(drop))
        .map_err(|failed| failed.of(&name))
}

pub async fn open(opener: &Opener, expected: &Expectation, job: &Job) -> Outcome {
    let name = name(job);
    let mut input = input(job)?;
    let front = Front::read(&mut input).map_err(|error| of_file(&name, error))?;
    let message = opener
        .unlock(&front, expected)
        .await
        .map_err(|error| of_file(&name, error))?;
    into_place(job, NewFile::opened, |output| message.stream(input, output).map(drop))
        .map_err(|failed| failed.of(&name))
}

enum Failed {
    Client(ClientError),
    ReaderGone,
}

impl Failed {
    fn of(self, name: &str) -> Failure {
        match self {
            Self::Client(error) => of_file(name, error),
            Self::ReaderGone => Failure::ReaderGone,
        }
    }
}

/// Has `work` write to where the job says.
fn into_place(
    job: &Job,
    new: fn(&Path) -> Result<NewFile, ClientError>,
    work: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), ClientError>,
) -> Result<(), Failed> {
    match &job.to {
        Some(path) => {
            let file = new(path).map_err(Failed::Client)?;
            work(&mut file.as_file()).map_err(Failed::Client)?;
            file.publish().map_err(Failed::Client)
        }
        None => {
            let mut output = Stdout::new().map_err(|error| Failed::Client(ClientError::from_io(error)))?;
            work(&mut output).map_err(|error| match output.reader_gone.load(Ordering::Relaxed) {
                true => Failed::ReaderGone,
                false => Failed::Client(error),
            })
        }
    }
}

fn name(job: &Job) -> String {
    let path = job.from.as_ref();
    path.map_or_else(|| "standard input".to_owned(), |path| format!("`{}`", path.display()))
}

fn input(job: &Job) -> Result<Box<dyn Read + Send>, Failure> {
    match &job.from {
        Some(path) => {
            let file = File::open(path).map_err(|error| Failure::file("read", path, &error))?;
            Ok(progress::shown(file, &path.display().to_string()))
        }
        None => Ok(Box::new(
            unbuffered(stdin().as_fd()).map_err(|error| Failure::file("read", Path::new("-"), &error))?,
        )),
    }
}

/// Batches are large: the buffers of the standard streams would only copy them.
fn unbuffered(stream: BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(stream.try_clone_to_owned()?))
}

/// Standard output, which knows whether its reader has gone.
struct Stdout {
    file: File,
    reader_gone: AtomicBool,
}

impl Stdout {
    fn new() -> io::Result<Self> {
        Ok(Self {
            file: unbuffered(stdout().as_fd())?,
            reader_gone: AtomicBool::new(false),
        })
    }

    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            self.reader_gone.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.file.write(bytes);
        self.noted(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.file.flush();
        self.noted(result)
    }
}
