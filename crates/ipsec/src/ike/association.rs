//! An IKE association as charon reports it.

use std::net::IpAddr;

use crate::vici::Message;

/// An IKE association with its children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// charon's number for it.
    pub id: u32,
    /// Name of its connection.
    pub connection: String,
    /// `ESTABLISHED`, `CONNECTING`, ...
    pub state: String,
    /// Who is at the other end; absent while that is not proved.
    pub remote_identity: Option<String>,
    /// Where.
    pub remote_address: Option<IpAddr>,
    /// ESP associations under it.
    pub children: usize,
}

impl Association {
    /// Those in an item of `list-sas`, or in an event.
    pub(crate) fn all_in(message: &Message) -> Vec<Self> {
        message
            .sections()
            .filter_map(|(connection, section)| Self::read(connection, section))
            .collect()
    }

    fn read(connection: &str, section: &Message) -> Option<Self> {
        let identity = section.text("remote-id").filter(|id| *id != "%any");
        let address = section.text("remote-host");
        Some(Self {
            id: section.text("uniqueid")?.parse().ok()?,
            connection: connection.to_owned(),
            state: section.text("state").unwrap_or_default().to_owned(),
            remote_identity: identity.map(str::to_owned),
            remote_address: address.and_then(|text| text.parse().ok()),
            children: section
                .section("child-sas")
                .map_or(0, |children| children.sections().count()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_proved_is_absent() {
        let half_open = Message::new()
            .with("uniqueid", "7")
            .with("state", "CONNECTING")
            .with("remote-host", "10.0.0.2")
            .with("remote-id", "%any");
        let item = Message::new().with_section("bootkeep-web-10-0-0-2", half_open);
        let all = Association::all_in(&item);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].id, 7);
        assert_eq!(all[0].remote_identity, None);
        assert_eq!(all[0].remote_address, "10.0.0.2".parse().ok());
    }
}
