//! One server that all tests of a file share: they run at once, on keys of their own.

use std::sync::OnceLock;
use std::sync::mpsc;
use std::thread;

use super::{ADMIN, Client, Setup, TestServer};

impl TestServer {
    pub async fn admin(&self) -> Client {
        self.client(ADMIN).await
    }
}

/// The server that the tests of one file share. It runs until the test program ends.
pub async fn shared() -> &'static TestServer {
    static SHARED: OnceLock<TestServer> = OnceLock::new();
    let start = || SHARED.get_or_init(start);
    tokio::task::spawn_blocking(start).await.unwrap()
}

fn start() -> TestServer {
    let (started, server) = mpsc::channel();
    // What is static is never dropped, so this server dies with the thread that started it: which must live on.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let server = runtime.block_on(async {
            let mut server = Setup::default().dying_with_its_starter().init();
            server.serve().await;
            server
        });
        started.send(server).unwrap();
        loop {
            thread::park();
        }
    });
    server.recv().expect("the shared server starts")
}
