//! The `swtpm` process.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);
/// Another program may take a port between our look and `swtpm`'s start.
const ATTEMPTS: usize = 10;

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    port: u16,
}

impl Process {
    /// Starts `swtpm` on two free ports of loopback.
    pub(crate) fn start(state: &Path) -> io::Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Self::start_at(state, free_pair()?) {
                Ok(process) => return Ok(process),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("swtpm was not tried")))
    }

    fn start_at(state: &Path, port: u16) -> io::Result<Self> {
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", state.display()))
            .arg("--server")
            .arg(format!("type=tcp,bindaddr=127.0.0.1,port={port}"))
            .arg("--ctrl")
            .arg(format!("type=tcp,bindaddr=127.0.0.1,port={}", port + 1))
            .arg("--log")
            .arg(format!("file={}", state.join("swtpm.log").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::other(format!("swtpm cannot be started: {error}")))?;
        let mut process = Self { child, port };
        process.wait_until_up()?;
        Ok(process)
    }

    fn wait_until_up(&mut self) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("swtpm ended at once: {status}")));
            }
            if connect(self.port + 1).is_ok() {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        Err(io::Error::other("swtpm did not come up"))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// TPM2_Shutdown with CLEAR, as an orderly power-off sends it, then the end of the process.
    pub(crate) fn shut_down(&mut self) -> io::Result<()> {
        const SHUTDOWN: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x45, 0, 0];
        let mut tpm = connect(self.port)?;
        tpm.write_all(&SHUTDOWN)?;
        let mut answer = [0; 10];
        tpm.read_exact(&mut answer)?;
        if answer[6..] != [0; 4] {
            return Err(io::Error::other("TPM2_Shutdown was refused"));
        }
        drop(tpm);
        self.stop()
    }

    /// Ends the process over its control channel; kills it when it does not listen.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        const CMD_SHUTDOWN: [u8; 4] = [0, 0, 0, 3];
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let asked = connect(self.port + 1).and_then(|mut control| {
            control.write_all(&CMD_SHUTDOWN)?;
            control.read_exact(&mut [0; 4])
        });
        if asked.is_ok() {
            let end = Instant::now() + PATIENCE;
            while Instant::now() < end {
                if self.child.try_wait()?.is_some() {
                    return Ok(());
                }
                thread::sleep(PAUSE);
            }
        }
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A port that is free together with the next one.
fn free_pair() -> io::Result<u16> {
    loop {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = first.local_addr()?.port();
        let next = port.checked_add(1);
        if next.is_some_and(|next| TcpListener::bind((Ipv4Addr::LOCALHOST, next)).is_ok()) {
            return Ok(port);
        }
    }
}
