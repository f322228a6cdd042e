//! Processes under measurement: their CPU time and memory as the kernel accounts them, and a line protocol on their standard streams.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use crate::Failure;

/// A child that answers lines; killed when dropped.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    pub fn start(command: &mut Command) -> Result<Self, Failure> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self { child, stdin, stdout })
    }

    /// The next line of its standard output.
    pub fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            return Err("a process of the benchmark ended early; its messages are above".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Reads lines until one starts with `prefix`, and returns what follows it.
    pub fn line_after(&mut self, prefix: &str) -> Result<String, Failure> {
        loop {
            let line = self.line()?;
            if let Some(rest) = line.strip_prefix(prefix) {
                return Ok(rest.to_owned());
            }
        }
    }

    pub fn say(&mut self, line: &str) -> Result<(), Failure> {
        let stdin = self.stdin.as_mut().ok_or("standard input is closed")?;
        writeln!(stdin, "{line}")?;
        Ok(stdin.flush()?)
    }

    /// User and system time so far, of its children too. Clock ticks of 10 ms; runs last a second or more.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        let own = Stat::of(self.child.id())?;
        // Those that ended are in the account of their parent.
        let ended: u64 = own.number(13)? + own.number(14)?;
        let children = self
            .children()?
            .into_iter()
            .filter_map(|child| Stat::of(child).ok()?.ticks().ok());
        Ok(Duration::from_millis(
            (own.ticks()? + ended + children.sum::<u64>()) * 10,
        ))
    }

    /// Its child processes, the one that has worked most first.
    pub fn children(&self) -> Result<Vec<u32>, Failure> {
        let own = u64::from(self.child.id());
        let mut children: Vec<(u64, u32)> = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((Stat::of(pid).ok()?, pid)))
            .filter(|(stat, _)| stat.number(1).is_ok_and(|parent| parent == own))
            .filter_map(|(stat, pid)| Some((stat.ticks().ok()?, pid)))
            .collect();
        children.sort_unstable();
        Ok(children.into_iter().rev().map(|(_, pid)| pid).collect())
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> Result<u64, Failure> {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        Ok(statm.split(' ').nth(1).ok_or("resident")?.parse::<u64>()? * 4096)
    }
}

/// The fields of `/proc/PID/stat` that follow the name: 0 is the state, 1 the parent.
struct Stat(Vec<String>);

impl Stat {
    fn of(pid: u32) -> Result<Self, Failure> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after = stat.rsplit(") ").next().unwrap_or_default();
        Ok(Self(after.split(' ').map(str::to_owned).collect()))
    }

    fn number(&self, field: usize) -> Result<u64, Failure> {
        Ok(self.0.get(field).ok_or("a field of stat")?.parse()?)
    }

    fn ticks(&self) -> Result<u64, Failure> {
        Ok(self.number(11)? + self.number(12)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin.take();
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        for _ in 0..50 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
