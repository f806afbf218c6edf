//! A name service for the guest: one name, whatever addresses a scenario gives it.

use std::{
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

/// Length of a message's header (RFC 1035 §4.1.1).
const HEADER: usize = 12;
const A: [u8; 2] = [0, 1];
const AAAA: [u8; 2] = [0, 28];

/// What the name stands for; every other name is unknown.
#[derive(Clone, Debug)]
pub struct Zone {
    /// The name.
    pub name: &'static str,
    /// Its IPv4 addresses.
    pub v4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses.
    pub v6: Vec<Ipv6Addr>,
}

/// A server in a thread of its own; it ends when this is dropped.
#[derive(Debug)]
pub struct Dns(Arc<AtomicBool>);

impl Dns {
    /// Serves on port 53 of every address, IPv4 and IPv6.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn serve(zone: Zone) -> Result<Self> {
        let socket = UdpSocket::bind("[::]:53").context("cannot listen on port 53 (UDP)")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let ended = Arc::new(AtomicBool::new(false));
        let server = Self(ended.clone());
        thread::spawn(move || {
            let mut question = [0; 512];
            while !ended.load(Ordering::Acquire) {
                if let Ok((length, from)) = socket.recv_from(&mut question) {
                    if let Some(answer) = zone.answer(&question[..length]) {
                        let _ = socket.send_to(&answer, from);
                    }
                }
            }
        });
        Ok(server)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Zone {
    /// The answer to a message with one question.
    fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        let (name, end) = name_at(message, HEADER)?;
        let question = message.get(HEADER..end + 4)?;
        let kind: [u8; 2] = message.get(end..end + 2)?.try_into().ok()?;
        let records: Vec<Vec<u8>> = match (name == self.name, kind) {
            (true, A) => self.v4.iter().map(|ip| ip.octets().to_vec()).collect(),
            (true, AAAA) => self.v6.iter().map(|ip| ip.octets().to_vec()).collect(),
            _ => Vec::new(),
        };
        let mut answer = message.get(..2)?.to_vec();
        // An answer with authority; 3: there is no such name.
        answer.extend([0x85, if name == self.name { 0x80 } else { 0x83 }]);
        answer.extend([0, 1, 0, u8::try_from(records.len()).ok()?, 0, 0, 0, 0]);
        answer.extend(question);
        for record in records {
            answer.extend([0xc0, HEADER as u8]);
            answer.extend(kind);
            answer.extend([0, 1, 0, 0, 0, 5, 0, u8::try_from(record.len()).ok()?]);
            answer.extend(record);
        }
        Some(answer)
    }
}

/// The name that starts here, in lower case, and where it ends.
fn name_at(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = message.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        at += length;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        Zone {
            name: "a.test",
            v4: vec![Ipv4Addr::new(10, 0, 2, 2)],
            v6: Vec::new(),
        }
    }

    fn question(label: &[u8], kind: [u8; 2]) -> Vec<u8> {
        let mut message = vec![7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label);
        message.extend(b"\x04test\0");
        message.extend(kind);
        message.extend([0, 1]);
        message
    }

    #[test]
    fn one_name_is_known() {
        let found = zone().answer(&question(b"A", A)).unwrap();
        assert_eq!(found[..4], [7, 8, 0x85, 0x80]);
        assert!(found.ends_with(&[0, 4, 10, 0, 2, 2]));
        let none = zone().answer(&question(b"a", AAAA)).unwrap();
        assert_eq!((none[3], none[7]), (0x80, 0));
        let unknown = zone().answer(&question(b"b", A)).unwrap();
        assert_eq!((unknown[3], unknown[7]), (0x83, 0));
        assert!(zone().answer(&[0; 12]).is_none());
    }
}
