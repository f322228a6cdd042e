//! What systemd is told (`Type=notify`): ready, stopping, alive. A datagram on `$NOTIFY_SOCKET`; without one, nothing.
//! Source: sd_notify(3), systemd.service(5) `WatchdogSec=`.

use std::{
    convert::Infallible,
    ffi::OsStr,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{ffi::OsStrExt as _, net::SocketAddr, net::UnixDatagram},
    },
    time::Duration,
};

/// The manager that started us, if it wants to hear.
pub struct Manager(Option<SocketAddr>);

impl Manager {
    pub fn from_environment() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").and_then(|name| address(&name)))
    }

    pub fn ready(&self) {
        self.send("READY=1");
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Says every half of `WATCHDOG_USEC` that the runtime still turns, for ever; says nothing if nobody asked.
    pub async fn keep_alive(&self) -> Infallible {
        let Some(interval) = watchdog_interval(std::env::var("WATCHDOG_USEC").ok().as_deref()) else {
            return std::future::pending().await;
        };
        loop {
            self.send("WATCHDOG=1");
            tokio::time::sleep(interval).await;
        }
    }

    /// A manager that does not listen is no reason to stop serving.
    fn send(&self, state: &str) {
        if let Self(Some(address)) = self
            && let Ok(socket) = UnixDatagram::unbound()
        {
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}

/// A path, or after `@` a name in the abstract namespace.
fn address(name: &OsStr) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name).ok(),
        _ => SocketAddr::from_pathname(name).ok(),
    }
}

fn watchdog_interval(microseconds: Option<&str>) -> Option<Duration> {
    let limit: u64 = microseconds?.parse().ok()?;
    (limit > 0).then(|| Duration::from_micros(limit / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_of_ready_and_stopping() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = Manager(address(path.as_os_str()));
        manager.ready();
        manager.stopping();
        let mut buffer = [0; 64];
        for wanted in ["READY=1", "STOPPING=1"] {
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], wanted.as_bytes());
        }
    }

    #[test]
    fn nobody_listening_is_no_fault() {
        Manager(None).ready();
        Manager(address(OsStr::new("/nowhere/notify"))).ready();
    }

    #[test]
    fn the_watchdog_is_fed_at_half_its_limit() {
        assert_eq!(watchdog_interval(Some("30000000")), Some(Duration::from_secs(15)));
        assert_eq!(watchdog_interval(Some("0")), None);
        assert_eq!(watchdog_interval(Some("soon")), None);
        assert_eq!(watchdog_interval(None), None);
    }
}
