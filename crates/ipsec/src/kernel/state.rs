//! States: the kernel's security associations.

use std::{io, net::IpAddr};

use super::{
    message::{family, Body, Fields, DELSA, GETSA},
    socket::Socket,
    KernelError,
};

const ATTRIBUTE_SOURCE: u16 = 13;
const ATTRIBUTE_MARK: u16 = 21;
const ESRCH: i32 = 3;

/// Offsets in `struct xfrm_usersa_info`.
const ID_DESTINATION: usize = 56;
const ID_SPI: usize = 72;
const ID_PROTOCOL: usize = 76;
const SOURCE: usize = 80;
/// After it: `saddr` 16, limits 64, use 32, statistics 12, `seq` 4, `reqid` 4.
const FAMILY: usize = 212;
/// Its size: attributes begin here.
const INFO: usize = 224;

/// What names a state. Its keys are not kept.
pub(super) struct State {
    source: IpAddr,
    destination: IpAddr,
    spi: [u8; 4],
    protocol: u8,
    mark: Option<[u8; 8]>,
}

impl State {
    pub(super) fn ends(&self) -> (IpAddr, IpAddr) {
        (self.source, self.destination)
    }

    fn read(body: &[u8]) -> Result<Self, KernelError> {
        let fields = Fields(body);
        let family = fields.u16(FAMILY)?;
        let mark = fields.attribute(INFO, ATTRIBUTE_MARK)?;
        Ok(Self {
            source: fields.address(SOURCE, family)?,
            destination: fields.address(ID_DESTINATION, family)?,
            spi: fields.array(ID_SPI)?,
            protocol: fields.u8(ID_PROTOCOL)?,
            mark: mark.map(|mark| Fields(mark).array(0)).transpose()?,
        })
    }
}

/// Every state of this network namespace.
pub(super) fn all(socket: &mut Socket) -> Result<Vec<State>, KernelError> {
    let list = socket.list("list states", GETSA, &Body::default())?;
    // The kernel sends the keys along.
    list.into_iter()
        .map(|body| State::read(&zeroize::Zeroizing::new(body)))
        .collect()
}

/// Whether it was there to be removed.
pub(super) fn remove(socket: &mut Socket, state: &State) -> Result<bool, KernelError> {
    let source = Body::default().address(state.source);
    let mut body = Body::default()
        .address(state.destination)
        .bytes(&state.spi)
        .u16(family(state.destination))
        .u8(state.protocol)
        .zeros(1)
        .attribute(ATTRIBUTE_SOURCE, &source.0);
    if let Some(mark) = state.mark {
        body = body.attribute(ATTRIBUTE_MARK, &mark);
    }
    match socket.change("remove a state", DELSA, &body) {
        Ok(()) => Ok(true),
        Err(KernelError::Refused { source, .. }) if is_gone(&source) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Somebody else was faster.
fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ESRCH)
}
