//! Threads of the double's own: a test may block its thread, or stop its runtime's clock.

use std::{io, sync::Arc, time::Duration};

use tokio::{runtime::Runtime, sync::Mutex};

/// For what still runs at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Ended at the latest when it is dropped.
pub struct Background(Option<Runtime>);

impl Background {
    pub fn start() -> io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder
            .worker_threads(2)
            .thread_name("keyreeve-double")
            .enable_all()
            .build();
        Ok(Self(Some(runtime?)))
    }

    /// Panics if `work` does.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = self.0.as_ref().expect("it is there until the end");
        match runtime.spawn(work).await {
            Ok(done) => done,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    /// Ends whatever runs, in a thread where blocking is allowed.
    pub fn end<T: Send + 'static>(&mut self, running: Arc<Mutex<Option<T>>>) {
        let Some(runtime) = self.0.take() else { return };
        let ending = std::thread::spawn(move || {
            let entered = runtime.enter();
            drop(running.try_lock().ok().and_then(|mut running| running.take()));
            drop(entered);
            runtime.shutdown_timeout(LAST_WORDS);
        });
        let _ = ending.join();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end::<()>(Arc::default());
    }
}
