//! A packet: its kind, the name of the command or event, the message.

use super::{
    message::{write_name, Reader},
    Message, ViciError,
};

const ROOM: usize = 16 * 1024;

const COMMAND: u8 = 0;
const RESPONSE: u8 = 1;
const COMMAND_UNKNOWN: u8 = 2;
const REGISTER: u8 = 3;
const CONFIRM: u8 = 5;
const EVENT_UNKNOWN: u8 = 6;
const EVENT: u8 = 7;

/// What is sent.
pub(super) enum Request<'a> {
    Command(&'a str, &'a Message),
    Register(&'a str),
}

impl Request<'_> {
    /// With the length in front.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, ViciError> {
        // Room for a key, so that no copy of it is left behind when the buffer grows.
        let mut packet = Vec::with_capacity(ROOM);
        packet.extend_from_slice(&[0; 4]);
        match self {
            Self::Command(name, message) => {
                packet.push(COMMAND);
                write_name(name, &mut packet)?;
                message.write(&mut packet)?;
            }
            Self::Register(event) => {
                packet.push(REGISTER);
                write_name(event, &mut packet)?;
            }
        }
        let length = u32::try_from(packet.len() - 4).unwrap_or(u32::MAX);
        packet[..4].copy_from_slice(&length.to_be_bytes());
        Ok(packet)
    }
}

/// What comes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Response(Message),
    CommandUnknown,
    Confirm,
    EventUnknown,
    Event(String, Message),
}

impl Reply {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ViciError> {
        let mut reader = Reader(bytes);
        Ok(match reader.byte()? {
            RESPONSE => Self::Response(Message::read(reader.0)?),
            COMMAND_UNKNOWN => Self::CommandUnknown,
            CONFIRM => Self::Confirm,
            EVENT_UNKNOWN => Self::EventUnknown,
            EVENT => Self::Event(reader.name()?, Message::read(reader.0)?),
            _ => return Err(ViciError::Malformed("an unknown kind of packet")),
        })
    }
}
