//! Requests to the kernel and their answers.
//!
//! The kernel works on a request while it is sent: answers are there at once, so nothing here waits.

use std::io;

use netlink_sys::{Socket as Netlink, SocketAddr};

use super::{
    message::{Body, Fields, HEADER},
    KernelError,
};

const NETLINK_XFRM: isize = 6;
const MSG_DONTWAIT: i32 = 0x40;

const REQUEST: u16 = 0x01;
const ACK: u16 = 0x04;
const DUMP: u16 = 0x300;
const DUMP_INTERRUPTED: u16 = 0x10;

const ERROR: u16 = 2;
const DONE: u16 = 3;

/// How often a list is read again that changed meanwhile.
const TRIES: usize = 8;

pub(super) struct Socket {
    netlink: Netlink,
    sequence: u32,
}

/// One message of an answer.
struct Part {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: Vec<u8>,
}

impl Socket {
    pub(super) fn open() -> Result<Self, KernelError> {
        let mut netlink = Netlink::new(NETLINK_XFRM).map_err(KernelError::Socket)?;
        netlink.bind_auto().map_err(KernelError::Socket)?;
        netlink.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            netlink,
            sequence: 0,
        })
    }

    /// A change: done, or the kernel's error number.
    pub(super) fn change(
        &mut self,
        what: &'static str,
        kind: u16,
        body: &Body,
    ) -> Result<(), KernelError> {
        self.send(kind, REQUEST | ACK, body)?;
        loop {
            for part in self.receive()? {
                if part.kind == ERROR {
                    return outcome(what, &part);
                }
            }
        }
    }

    /// A list: the bodies of its messages.
    pub(super) fn list(
        &mut self,
        what: &'static str,
        kind: u16,
        body: &Body,
    ) -> Result<Vec<Vec<u8>>, KernelError> {
        for _ in 0..TRIES {
            if let Some(list) = self.try_list(what, kind, body)? {
                return Ok(list);
            }
        }
        Err(KernelError::Unsteady)
    }

    /// None when it changed while it was read.
    fn try_list(
        &mut self,
        what: &'static str,
        kind: u16,
        body: &Body,
    ) -> Result<Option<Vec<Vec<u8>>>, KernelError> {
        self.send(kind, REQUEST | DUMP, body)?;
        let (mut list, mut steady) = (Vec::new(), true);
        loop {
            for part in self.receive()? {
                steady &= part.flags & DUMP_INTERRUPTED == 0;
                match part.kind {
                    DONE => return Ok(steady.then_some(list)),
                    ERROR => outcome(what, &part)?,
                    _ => list.push(part.body),
                }
            }
        }
    }

    fn send(&mut self, kind: u16, flags: u16, body: &Body) -> Result<(), KernelError> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + body.0.len()).unwrap_or(u32::MAX);
        let message = Body::default()
            .u32(length)
            .u16(kind)
            .u16(flags)
            .u32(self.sequence)
            .u32(0)
            .bytes(&body.0);
        self.netlink.send(&message.0, MSG_DONTWAIT)?;
        Ok(())
    }

    /// The messages of one datagram that answer the last request.
    fn receive(&self) -> Result<Vec<Part>, KernelError> {
        let mut datagram = Vec::with_capacity(DATAGRAM);
        self.netlink.recv(&mut datagram, MSG_DONTWAIT)?;
        let mut parts = parts(&datagram)?;
        parts.retain(|part| part.sequence == self.sequence);
        Ok(parts)
    }
}

/// The kernel's largest datagram of a list is 32 KiB (`NLMSG_GOODSIZE` and `max_recvmsg_len`).
const DATAGRAM: usize = 64 * 1024;

fn parts(mut bytes: &[u8]) -> Result<Vec<Part>, KernelError> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let fields = Fields(bytes);
        let length = usize::try_from(fields.u32(0)?).unwrap_or(usize::MAX);
        let body = bytes
            .get(HEADER..length)
            .ok_or(KernelError::Malformed("it ends too late"))?;
        parts.push(Part {
            kind: fields.u16(4)?,
            flags: fields.u16(6)?,
            sequence: fields.u32(8)?,
            body: body.to_vec(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(parts)
}

fn outcome(what: &'static str, part: &Part) -> Result<(), KernelError> {
    match i32::from_ne_bytes(Fields(&part.body).array(0)?) {
        0 => Ok(()),
        number => Err(KernelError::Refused {
            what,
            source: io::Error::from_raw_os_error(number.saturating_neg()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::parts;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parts(&bytes);
        }
    }
}
