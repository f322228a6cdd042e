//! The service as it is run: the built binary with its own token, certificates, configuration, data directory and ports.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::ca::{Issued, TestCa};
use super::client::Client;
use super::setup::Setup;
use super::token::TestToken;

/// How long anything that must happen may take, on a slow machine under load.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A service and everything that is its own. Killed, and its directory removed, on drop.
pub struct TestServer {
    pub directory: TempDir,
    pub setup: Setup,
    pub token: TestToken,
    /// Signs the service's certificate.
    pub server_ca: TestCa,
    /// Signs the callers' certificates.
    pub client_ca: TestCa,
    pub listen: SocketAddr,
    pub local: SocketAddr,
    process: Option<Child>,
}

impl TestServer {
    /// A service with the usual settings, serving.
    pub async fn start() -> Self {
        let mut server = Setup::default().init();
        server.serve().await;
        server
    }

    pub(super) fn new(
        directory: TempDir,
        setup: Setup,
        token: TestToken,
        server_ca: TestCa,
        client_ca: TestCa,
    ) -> Self {
        let [listen, local] = free_ports();
        Self {
            directory,
            setup,
            token,
            server_ca,
            client_ca,
            listen,
            local,
            process: None,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("keyreeve.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Starts `keyreeve serve` and waits until it is ready.
    pub async fn serve(&mut self) {
        self.serve_with(&[]).await;
    }

    /// The same, with more variables in its environment.
    pub async fn serve_with(&mut self, environment: &[(&str, PathBuf)]) {
        self.spawn(environment);
        self.ready().await;
    }

    /// Starts `keyreeve serve` and does not wait.
    pub fn spawn(&mut self, environment: &[(&str, PathBuf)]) {
        let mut command = self.command("serve");
        if self.setup.dies_with_its_starter {
            command = through("setpriv", &["--pdeathsig", "KILL"], &command);
        }
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        self.spawn_command(command);
    }

    /// The same with a command of the test's own, which must end up as the service.
    pub fn spawn_command(&mut self, mut command: Command) {
        assert!(self.process.is_none(), "the server runs already");
        let out = |name: &str| {
            let path = self.path("out").join(name);
            File::options().create(true).append(true).open(path).unwrap()
        };
        // A core file, if there were one, would lie among what is searched for canaries.
        command.current_dir(self.directory.path());
        command.stdin(Stdio::null()).stdout(out("stdout")).stderr(out("stderr"));
        self.process = Some(command.spawn().expect("the binary was built"));
    }

    /// Waits until the service says that it is ready.
    pub async fn ready(&mut self) {
        assert!(self.is_ready().await, "the server ended: {}", self.output());
    }

    /// Waits until the service says that it is ready, or ends.
    pub async fn is_ready(&mut self) -> bool {
        let end = Instant::now() + PATIENCE;
        while !self
            .http("/readyz")
            .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        {
            let process = self.process.as_mut().expect("spawned");
            if process.try_wait().unwrap().is_some() {
                self.process = None;
                return false;
            }
            assert!(Instant::now() < end, "the server is not ready: {}", self.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }

    /// SIGTERM, and waits for the end. Clients that are still connected must go on meanwhile to see their GOAWAY.
    pub async fn stop(&mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.wait().await
    }

    /// SIGHUP: takes up certificates and policies again, some time soon.
    pub fn hang_up(&self) {
        kill_process(self.pid(), Signal::HUP).unwrap();
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the server runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Waits for a process that ends by itself.
    pub async fn wait(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the server runs");
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = process.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > end {
                process.kill().unwrap();
                process.wait().unwrap();
                panic!("the server did not end: {}", self.output());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(self.process.as_ref().expect("the server runs"))
    }

    /// The processes that it started: the workers of its tokens.
    pub fn workers(&self) -> Vec<i32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid().as_raw_nonzero())).unwrap();
        let listed = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        let listed: Vec<String> = listed.collect();
        let pids = listed.iter().flat_map(|line| line.split_whitespace());
        pids.map(|pid| pid.parse().unwrap()).collect()
    }

    /// What the service wrote to standard output and standard error, of all its starts.
    pub fn output(&self) -> String {
        let read = |name| fs::read(self.path("out").join(name)).unwrap_or_default();
        let text = [read("stdout"), read("stderr")].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The whole answer of the local port; `None` while nothing listens there.
    pub fn http(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.local, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// A counter's value; `name` with its labels, as in `name_total{reason="x"}`.
    pub fn counter(&self, name: &str) -> u64 {
        let text = self.http("/metrics").expect("the local port answers");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no counter {name} in {text}"));
        value.parse().unwrap()
    }

    /// A connection of the workload `spiffe://flows.test/{path}`.
    pub async fn client(&self, path: &str) -> Client {
        let certificate = self.client_ca.client(path);
        self.connect(&certificate).await.expect("the handshake succeeds")
    }

    pub async fn connect(&self, certificate: &Issued) -> std::io::Result<Client> {
        Client::connect(self.listen, &self.server_ca, certificate).await
    }

    /// `keyreeve {command} --config …` in the token's environment.
    pub fn command(&self, command: &str) -> Command {
        keyreeve(&self.token, &self.config(), command)
    }

    /// Runs a command of the operator to its end. `arguments` follow the command's own words.
    pub fn run(&self, command: &str, arguments: &[&str]) -> Output {
        self.command(command)
            .args(arguments)
            .output()
            .expect("the binary was built")
    }

    /// Runs a command of the client, by its words, as the workload `spiffe://flows.test/{path}`.
    pub fn run_as(&self, path: &str, words: &[&str]) -> Output {
        self.client_ca.client(path).write(&self.path("tls"), path);
        let tls = |name: &str| self.path("tls").join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyreeve"));
        command.args(words);
        command.env("KEYREEVE_ADDR", format!("https://{}", self.listen));
        command.env("KEYREEVE_CA", tls("server-ca.pem"));
        command.env("KEYREEVE_CERT", tls(&format!("{path}.pem")));
        command.env("KEYREEVE_KEY", tls(&format!("{path}.key")));
        command.output().expect("the binary was built")
    }

    /// The same, which must succeed; its standard output.
    #[track_caller]
    pub fn run_ok(&self, command: &str, arguments: &[&str]) -> String {
        let output = self.run(command, arguments);
        assert!(output.status.success(), "keyreeve {command}: {}", text(&output));
        String::from_utf8(output.stdout).expect("the output is text")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("the server said: {}", last_lines(&self.output(), 60));
        }
    }
}

/// `keyreeve {command} --config {config}`; `command` may be several words.
pub(super) fn keyreeve(token: &TestToken, config: &Path, command: &str) -> Command {
    let mut built = Command::new(env!("CARGO_BIN_EXE_keyreeve"));
    for (name, _) in std::env::vars_os() {
        // What a developer has set for a server of his own is not meant for this one.
        if name.to_string_lossy().starts_with("KEYREEVE_") {
            built.env_remove(name);
        }
    }
    built
        .env(token.environment.0, &token.environment.1)
        .args(command.split(' '))
        .arg("--config")
        .arg(config);
    built
}

/// The same command, environment included, started by another program that becomes it.
pub fn through(program: &str, arguments: &[&str], command: &Command) -> Command {
    let mut built = Command::new(program);
    built
        .args(arguments)
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => built.env(name, value),
            None => built.env_remove(name),
        };
    }
    built
}

/// Both outputs of a command, for messages.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Ports that nobody listens on, from below the range that the system gives to outgoing connections: of those, one could be
/// taken again before the server starts, and between its starts.
pub fn free_ports<const N: usize>() -> [SocketAddr; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 16_384;
    const COUNT: u32 = 16_384;
    std::array::from_fn(|_| {
        loop {
            // Test programs that run at once begin at different places.
            let next = std::process::id().wrapping_mul(1_009) % COUNT + NEXT.fetch_add(1, Ordering::Relaxed);
            let port = u16::try_from(FIRST + next % COUNT).expect("below 32,768");
            if let Ok(held) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                return held.local_addr().unwrap();
            }
        }
    })
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
