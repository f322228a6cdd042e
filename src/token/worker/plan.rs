//! How a worker is started: the program executed again, told what it needs over its socket, and waited for until it is ready.

use std::{
    io::ErrorKind,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::UnixStream,
    process::{Child, Command},
};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    frame::{Frames, Malformed},
    link::Link,
    process_host::Program,
    start::{self, News, Start},
};
use crate::{
    clock::{Clock as _, SystemClock},
    token::{OpenError, TokenConfig, pin},
};

/// A start that takes longer will not come to an end. Far beyond any token's login, under which a worker is not killed.
const START_WITHIN: Duration = Duration::from_secs(60);

/// How a worker is started.
#[derive(Clone)]
pub struct Plan {
    program: Program,
    start: Start,
    /// From a descriptor the PIN can be read once only, so it is kept for the next worker.
    pin: Option<Arc<Zeroizing<Vec<u8>>>>,
}

/// A worker that is ready.
pub struct Started {
    pub link: Arc<Link>,
    pub frames: Frames,
    pub child: Child,
}

impl Plan {
    /// Errors: a PIN that must be kept and cannot be read.
    pub fn new(
        program: Program,
        token: TokenConfig,
        data_directory: &Path,
        tombstones: &Path,
    ) -> Result<Self, OpenError> {
        let source = token.pin_source()?;
        let pin = match token.pin_fd {
            Some(_) => Some(Arc::new(pin::read_bytes(&source)?.0)),
            None => None,
        };
        Ok(Self {
            program,
            start: Start {
                token,
                data_directory: absolute(data_directory),
                tombstones: absolute(tombstones),
                epoch: 0,
            },
            pin,
        })
    }

    /// Starts a worker and waits until it is ready.
    pub async fn start(&self) -> Result<Started, OpenError> {
        match tokio::time::timeout(START_WITHIN, self.start_at_leisure()).await {
            Ok(started) => started,
            Err(_) => Err(OpenError::Worker(format!(
                "a worker was not ready within {} s",
                START_WITHIN.as_secs()
            ))),
        }
    }

    async fn start_at_leisure(&self) -> Result<Started, OpenError> {
        let failed = |error: std::io::Error| {
            OpenError::Worker(format!("cannot start `{}`: {error}", self.program.path.display()))
        };
        let (near, far) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        near.set_nonblocking(true).map_err(failed)?;
        let stream = UnixStream::from_std(near).map_err(failed)?;
        let mut child = Command::new(&self.program.path)
            .args(&self.program.arguments)
            .stdin(OwnedFd::from(far))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let epoch = epoch();
        self.tell(&stream, epoch).await?;
        let mut frames = Frames::new();
        loop {
            match next_news(&mut frames).map_err(|error| failed(error.into()))? {
                Some(News::Ready(ready)) => {
                    let link = Arc::new(Link::new(stream, child.id().unwrap_or(0), epoch, ready));
                    return Ok(Started { link, frames, child });
                }
                Some(News::Failed(trouble) | News::Fault(trouble)) => {
                    let _ = child.wait().await;
                    return Err(OpenError::WorkerSays(trouble));
                }
                Some(News::Handles(_) | News::Pulse(_)) => {}
                None => {
                    stream.readable().await.map_err(failed)?;
                    let ended = match frames.fill(|room| stream.try_read(room)) {
                        Ok(read) => read == 0,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                        // It ended before it read what it was told.
                        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
                        Err(error) => return Err(failed(error)),
                    };
                    if ended {
                        let status = child.wait().await.map_err(failed)?;
                        let program = self.program.path.display();
                        return Err(OpenError::Worker(format!(
                            "`{program}` ended at its start ({status}): see its lines in the log before this one"
                        )));
                    }
                }
            }
        }
    }

    async fn tell(&self, stream: &UnixStream, epoch: u64) -> Result<(), OpenError> {
        let pin = match &self.pin {
            Some(pin) => Arc::clone(pin),
            None => Arc::new(pin::read_bytes(&self.start.token.pin_source()?)?.0),
        };
        let mut out = Vec::with_capacity(16 * 1024);
        let told = Start {
            epoch,
            ..self.start.clone()
        };
        start::put_start(&mut out, &told, &pin);
        let mut sent = 0;
        while sent < out.len() {
            let written = match stream.try_write(&out[sent..]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await.map(|()| 0),
                written => written,
            };
            match written {
                Ok(written) => sent += written,
                // It ended; why, it says, or its exit code does.
                Err(_) => break,
            }
        }
        out.zeroize();
        Ok(())
    }
}

/// The news at the start of `frames`, before which no answer can stand.
fn next_news(frames: &mut Frames) -> Result<Option<News>, Malformed> {
    match frames.next()? {
        Some(frame) => start::news(frame)?.map(Some).ok_or(Malformed),
        None => Ok(None),
    }
}

/// Unix seconds, or the number after the last one: no two workers of this process have the same.
fn epoch() -> u64 {
    use std::sync::atomic::AtomicU64;
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = u64::try_from(SystemClock.now().unix_ms() / 1000).unwrap_or(0);
    let next = |last: u64| Some(now.max(last + 1));
    LAST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next)
        .map_or(now, |last| now.max(last + 1))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
