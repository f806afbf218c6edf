//! A little HTTP server for the guest: it sees the host at 10.0.2.2.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    thread,
    time::Duration,
};

use anyhow::{bail, Context, Result};

/// Largest body that is taken (bytes).
const MAX_BODY: u64 = 64 * 1024 * 1024;

/// One request.
#[derive(Debug)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path.
    pub path: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Answers requests; `None` is 404.
pub trait Handler: Send + Sync + 'static {
    /// The answer's body.
    fn answer(&self, request: &Request) -> Option<Vec<u8>>;
}

/// A server in threads of its own; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

/// Serves on this port of the loopback interface.
///
/// # Errors
/// When the port is taken.
pub fn serve(port: u16, handler: Arc<impl Handler>) -> Result<Server> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let ended = Arc::new(AtomicBool::new(false));
    let server = Server {
        address,
        ended: Arc::clone(&ended),
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if ended.load(Ordering::Acquire) {
                return;
            }
            let handler = Arc::clone(&handler);
            thread::spawn(move || {
                // A guest that hangs up is no news.
                let _ = exchange(stream, &*handler);
            });
        }
    });
    Ok(server)
}

fn exchange(mut stream: TcpStream, handler: &impl Handler) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let request = read(&stream)?;
    let (status, body) = match handler.answer(&request) {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", Vec::new()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    Ok(())
}

fn read(stream: &TcpStream) -> Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        bail!("not a request line: {line:?}");
    };
    let (method, path) = (method.to_owned(), path.to_owned());
    let length = content_length(&mut reader)?;
    let mut body = Vec::new();
    reader.take(length.min(MAX_BODY)).read_to_end(&mut body)?;
    Ok(Request { method, path, body })
}

fn content_length(reader: &mut impl BufRead) -> Result<u64> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else {
            return Ok(length);
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
    }
}
