//! The service manager (`sd_notify(3)`): ready, stopping, and a sign of life at intervals.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// systemd, or nobody.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    socket: Option<OsString>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// Whoever started this process.
    #[must_use]
    pub fn of_process() -> Self {
        let watchdog = env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Duration::from_micros);
        Self::at(env::var_os("NOTIFY_SOCKET"), watchdog)
    }

    /// One that listens at `socket` and wants a sign of life within every `watchdog`.
    #[must_use]
    pub fn at(socket: Option<OsString>, watchdog: Option<Duration>) -> Self {
        Self { socket, watchdog }
    }

    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Gives signs of life as long as the runtime it runs on does.
    pub(crate) async fn keep_alive(self) {
        let Some(watchdog) = self.watchdog.filter(|wait| !wait.is_zero()) else {
            return;
        };
        let mut ticks = tokio::time::interval(watchdog / 3);
        loop {
            ticks.tick().await;
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = send(socket, message) {
            tracing::warn!(%error, message, "systemd could not be told");
        }
    }
}

fn send(name: &OsStr, message: &str) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(message.as_bytes(), &address)
        .map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hear(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[tokio::test]
    async fn systemd_hears_of_readiness_life_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor::at(Some(path.into()), Some(Duration::from_millis(3)));
        supervisor.ready("Testing");
        assert!(hear(&socket).starts_with("READY=1\n"));
        let life = tokio::spawn(supervisor.clone().keep_alive());
        let (first, second) = tokio::task::spawn_blocking(move || {
            let heard = (hear(&socket), hear(&socket));
            supervisor.stopping();
            while hear(&socket) != "STOPPING=1" {}
            heard
        })
        .await
        .unwrap();
        assert_eq!(
            (first.as_str(), second.as_str()),
            ("WATCHDOG=1", "WATCHDOG=1")
        );
        life.abort();
    }

    #[tokio::test]
    async fn without_systemd_nothing_is_said() {
        let supervisor = Supervisor::default();
        supervisor.ready("Testing");
        supervisor.keep_alive().await;
    }
}
