//! A port of this computer that leads to another one: where clients know a service, whatever machine it runs on.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    thread,
};

use anyhow::{Context, Result};

/// Connections to one port carried to another, until it is dropped.
#[derive(Debug)]
pub struct Relay {
    from: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Relay {
    /// Carries connections between two ports of the loopback interface.
    ///
    /// # Errors
    /// When the first is taken.
    pub fn start(from: u16, to: u16) -> Result<Self> {
        let from = SocketAddr::from(([127, 0, 0, 1], from));
        let listener =
            TcpListener::bind(from).with_context(|| format!("cannot listen on {from}"))?;
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if seen.load(Ordering::Acquire) {
                    return;
                }
                thread::spawn(move || carry(&client, to));
            }
        });
        Ok(Self { from, ended })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.from);
    }
}

/// Both ways, until both are closed. What breaks is closed; the ends notice by themselves.
fn carry(client: &TcpStream, to: u16) {
    let Ok(service) = TcpStream::connect(("127.0.0.1", to)) else {
        return;
    };
    thread::scope(|scope| {
        scope.spawn(|| pour(client, &service));
        pour(&service, client);
    });
}

fn pour(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn bytes_go_both_ways_and_the_end_is_passed_on() {
        let service = TcpListener::bind("127.0.0.1:0").unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let relay = Relay::start(port, service.local_addr().unwrap().port()).unwrap();
        let answered = thread::spawn(move || {
            let (mut stream, _) = service.accept().unwrap();
            let mut asked = String::new();
            stream.read_to_string(&mut asked).unwrap();
            stream.write_all(asked.to_uppercase().as_bytes()).unwrap();
        });
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "HELLO");
        answered.join().unwrap();
        drop(relay);
    }
}
