//! A server under load, how clients reach it, and what a run of the load generator measured.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{Failure, load::Measured, medians::Run, process::Process};

/// The key that most cells use.
pub const KEY: &str = "envs/dev/teams/shop/keys/bench";

pub struct Server {
    process: RefCell<Process>,
    address: String,
    /// Of the port that shows metrics.
    local: String,
    ca: String,
    admin: Identity,
    /// A second caller, who may use keys.
    app: Identity,
}

#[derive(Clone, Default)]
struct Identity {
    certificate: String,
    key: String,
}

/// Who sends load.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum As {
    Admin,
    App,
}

impl Server {
    pub fn start(
        keyreeve: &Path,
        directory: &Path,
        arguments: &[&str],
        environment: &[(&str, String)],
    ) -> Result<Self, Failure> {
        // Free a moment ago: good enough for a benchmark.
        let local = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = Command::new(keyreeve);
        command.arg("dev").arg("--dir").arg(directory);
        command
            .args(["--listen", "127.0.0.1:0", "--local", &local])
            .args(arguments);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let process = Process::start(command.stderr(Stdio::null()))?;
        let told = exports(&directory.join("env"))?;
        let value = |told: &BTreeMap<String, String>, name: &str| {
            told.get(name)
                .cloned()
                .ok_or_else(|| format!("the server told no {name}"))
        };
        let identity = |told: &BTreeMap<String, String>| {
            Ok::<_, Failure>(Identity {
                certificate: value(told, "KEYREEVE_CERT")?,
                key: value(told, "KEYREEVE_KEY")?,
            })
        };
        Ok(Self {
            process: process.into(),
            address: value(&told, "KEYREEVE_ADDR")?,
            local,
            ca: value(&told, "KEYREEVE_CA")?,
            admin: identity(&told)?,
            app: identity(&exports(&directory.join("env-app"))?)?,
        })
    }

    /// The echo, with the certificate of the client as its own: both sides trust the same CA.
    pub fn echo(like: &Self) -> Result<Self, Failure> {
        let folder = Path::new(&like.ca).parent().ok_or("the CA file has a folder")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("echo").arg("--client-ca").arg(&like.ca);
        command
            .arg("--certificate")
            .arg(folder.join("server.pem"))
            .arg("--key")
            .arg(folder.join("server.key"));
        let mut process = Process::start(&mut command)?;
        let address = process.line_after("listening ")?;
        Ok(Self {
            process: process.into(),
            address,
            local: String::new(),
            ca: like.ca.clone(),
            admin: like.admin.clone(),
            app: like.app.clone(),
        })
    }

    /// A load generator, connected and warm; it works when it is told `go`.
    pub fn load(
        &self,
        caller: As,
        operation: &str,
        name: &str,
        keys: u64,
        arguments: &[&str],
    ) -> Result<Process, Failure> {
        let who = if caller == As::Admin { &self.admin } else { &self.app };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["load", "--operation", operation, "--name", name]);
        command.args(["--keys", &keys.to_string(), "--address", &self.address]);
        command.args(["--ca", &self.ca, "--certificate", &who.certificate, "--key", &who.key]);
        let mut load = Process::start(command.args(arguments))?;
        load.line_after("ready")?;
        Ok(load)
    }

    pub fn make_keys(&self, name: &str, keys: u64) -> Result<Measured, Failure> {
        let mut load = self.load(As::Admin, "create-keys", name, keys, &["--concurrency", "128"])?;
        let made = go(&mut load)?;
        if made.errors + made.refused > 0 {
            return Err(format!("{} of {keys} keys could not be made", made.errors + made.refused).into());
        }
        Ok(made)
    }

    pub fn measure(
        &self,
        milliseconds: u64,
        operation: &str,
        payload: usize,
        concurrency: usize,
        name: &str,
        keys: u64,
    ) -> Result<Run, Failure> {
        let (payload, concurrency) = (payload.to_string(), concurrency.to_string());
        let milliseconds = milliseconds.to_string();
        let arguments = ["--payload", &payload, "--concurrency", &concurrency];
        let arguments = [&arguments[..], &["--milliseconds", &milliseconds]].concat();
        let mut load = self.load(As::Admin, operation, name, keys, &arguments)?;
        let before = self.process.borrow().cpu()?;
        let measured = go(&mut load)?;
        let cpu = self.process.borrow().cpu()? - before;
        Ok(Run {
            cpu_us: cpu.as_secs_f64() * 1e6 / measured.operations as f64,
            rate: measured.operations as f64 / measured.seconds,
            p50_us: measured.p50_us as f64,
            p99_us: measured.p99_us as f64,
            errors: (measured.errors + measured.refused) as f64,
        })
    }

    pub fn rss(&self) -> Result<u64, Failure> {
        self.process.borrow().rss()
    }

    /// Its worker processes, the one that has worked most first.
    pub fn workers(&self) -> Result<Vec<u32>, Failure> {
        self.process.borrow().children()
    }

    /// Waits until so many of its tokens serve.
    pub fn wait_for_tokens(&self, tokens: usize) -> Result<(), Failure> {
        wait_for("tokens that should serve or be missed", || {
            Ok(self.metric("keyreeve_tokens{breaker=\"closed\"")? == tokens as f64)
        })
    }

    /// The sum of the metrics whose name, with labels, begins so.
    pub fn metric(&self, name: &str) -> Result<f64, Failure> {
        let mut stream = TcpStream::connect(&self.local)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let values = text.lines().filter(|line| line.starts_with(name));
        Ok(values
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }
}

/// Lets a load generator work once.
pub fn go(load: &mut Process) -> Result<Measured, Failure> {
    load.say("go")?;
    Ok(serde_json::from_str(&load.line()?)?)
}

/// Waits for what must come to pass within a minute.
pub fn wait_for(what: &str, is_so: impl Fn() -> Result<bool, Failure>) -> Result<(), Failure> {
    for _ in 0..600 {
        if is_so()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(format!("waited a minute for {what}").into())
}

/// The variables of a file that a shell would source, once it is there: the server writes it when it takes calls.
fn exports(file: &Path) -> Result<BTreeMap<String, String>, Failure> {
    for _ in 0..600 {
        if let Ok(text) = fs::read_to_string(file) {
            return Ok(text
                .lines()
                .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
                .collect());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("the server did not start within a minute: try `keyreeve dev`".into())
}
