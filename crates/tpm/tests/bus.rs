//! Who listens on the bus to the TPM reads no secret.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use bootkeep_credential::make_credential;
use bootkeep_evidence::EkPublic;
use bootkeep_swtpm::Swtpm;
use bootkeep_tpm::{EkKind, Tcti, Tpm};

const SECRET: [u8; 32] = *b"a secret that must not be heard!";

/// Everything that crossed, in both directions.
type Heard = Arc<Mutex<Vec<u8>>>;

/// Stands between the library and a TPM's two ports.
struct Listener {
    port: u16,
    heard: Heard,
}

impl Listener {
    fn before(tpm_port: u16) -> Self {
        let heard = Heard::default();
        let (command, control) = neighbours();
        let port = command.local_addr().unwrap().port();
        for (ours, theirs) in [(command, tpm_port), (control, tpm_port + 1)] {
            let heard = Arc::clone(&heard);
            thread::spawn(move || {
                for stream in ours.incoming() {
                    relay(stream.unwrap(), theirs, &heard);
                }
            });
        }
        Self { port, heard }
    }

    fn open(&self) -> Tpm {
        let port = self.port;
        Tpm::open(&Tcti::Swtpm { port }).unwrap()
    }

    fn has_heard(&self, what: &[u8]) -> bool {
        let heard = self.heard.lock().unwrap();
        heard.windows(what.len()).any(|bytes| bytes == what)
    }
}

/// Two ports in a row.
fn neighbours() -> (TcpListener, TcpListener) {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    loop {
        let first = bind(0).unwrap();
        let next = first.local_addr().unwrap().port().checked_add(1);
        if let Some(Ok(second)) = next.map(bind) {
            return (first, second);
        }
    }
}

fn relay(ours: TcpStream, port: u16, heard: &Heard) {
    let theirs = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let ways = [
        (ours.try_clone().unwrap(), theirs.try_clone().unwrap()),
        (theirs, ours),
    ];
    for (mut from, mut to) in ways {
        let heard = Arc::clone(heard);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                heard.lock().unwrap().extend_from_slice(&buffer[..length]);
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    }
}

#[test]
fn a_sealed_secret_crosses_encrypted_both_ways() {
    let swtpm = Swtpm::bare().unwrap();
    let listener = Listener::before(swtpm.port());
    let mut tpm = listener.open();
    let sealed = tpm.seal(&SECRET, &[7]).unwrap();
    assert_eq!(tpm.unseal(&sealed, &[7]).unwrap().as_slice(), SECRET);
    assert!(!listener.has_heard(&SECRET));
}

#[test]
fn the_secret_of_a_credential_crosses_encrypted() {
    let swtpm = Swtpm::bare().unwrap();
    let listener = Listener::before(swtpm.port());
    let mut tpm = listener.open();
    let name = tpm.ensure_ak().unwrap().name;
    for kind in [EkKind::EccP256, EkKind::Rsa2048] {
        let ek = tpm.ek_of_kind(kind).unwrap();
        tpm.use_ek(kind);
        let ek = EkPublic::parse(&ek.public).unwrap();
        let made = make_credential(&ek, &name, &SECRET).unwrap();
        let opened = tpm.activate_credential(&made.blob, &made.encrypted_secret);
        assert_eq!(opened.unwrap().as_slice(), SECRET);
        assert!(!listener.has_heard(&SECRET), "{kind:?}");
    }
}

/// The listener hears what is not secret, so its silence above says something.
#[test]
fn what_is_not_secret_is_heard() {
    let swtpm = Swtpm::bare().unwrap();
    let listener = Listener::before(swtpm.port());
    let mut tpm = listener.open();
    tpm.nv_define(0x0180_b007, 32).unwrap();
    tpm.nv_write(0x0180_b007, &SECRET).unwrap();
    assert!(listener.has_heard(&SECRET));
}
