//! What one message may hold. Everything from outside is bounded by one of these.

/// Largest byte field of any message: an IMA list or an event log (bytes).
pub const MAX_FIELD: usize = 8 * 1024 * 1024;
/// Largest JSON body an endpoint reads unless it says otherwise (bytes).
pub const MAX_BODY: usize = 64 * 1024;
/// Largest body of an enrolment: two policies and an envelope (bytes).
pub const MAX_ENROLMENT: usize = 24 * 1024 * 1024;
/// Largest frame on a link (bytes): evidence with a full IMA list in base64.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;
/// Largest share of a measurement list one answer carries (bytes); the rest follows from the new offset.
pub const MAX_IMA_SLICE: usize = 4 * 1024 * 1024;
/// Largest event log a node sends (bytes).
pub const MAX_EVENT_LOG: usize = 1024 * 1024;
/// Largest `.pcrsig` section (bytes).
pub const MAX_PCR_SIGNATURES: usize = 256 * 1024;
/// Largest sealed envelope (bytes).
pub const MAX_ENVELOPE: usize = 4 * 1024 * 1024;
/// Largest EK certificate (bytes).
pub const MAX_CERTIFICATE: usize = 8 * 1024;
/// Largest public area of a TPM key (bytes).
pub const MAX_PUBLIC: usize = 1024;
/// Longest label or detail a peer may send (characters).
pub const MAX_TEXT: usize = 256;
/// Steps remembered for each node; older ones are dropped.
pub const MAX_STEPS: usize = 256;
/// Claims one node may send in one boot.
pub const MAX_CLAIMS: usize = 64;
/// Revocations one message carries.
pub const MAX_REVOCATIONS: usize = 64;
/// Longest time between two messages about revocations to a node that has a link (seconds): the heartbeat.
pub const REVOCATION_HEARTBEAT_SECONDS: u64 = 10;
/// Largest revocation list of the CA that is handed on (bytes): about 25,000 certificates.
pub const MAX_CRL: usize = 1024 * 1024;
/// Addresses of one node.
pub const MAX_ADDRESSES: usize = 16;
/// Certificates of one node.
pub const MAX_SERIALS: usize = 64;
/// How long a registrar challenge may be answered (seconds).
pub const CHALLENGE_SECONDS: u64 = 60;
/// How long the answer to one call over the link may take (seconds). A software TPM on a slow machine needs several.
pub const CALL_SECONDS: u64 = 60;
/// Longest time an events request is held open (seconds).
pub const LONG_POLL_SECONDS: u64 = 25;
/// How long a peer may take for the TLS handshake, and to send a request (seconds).
pub const HANDSHAKE_SECONDS: u64 = 10;
/// A link on which nothing came for this long is asked whether the peer is still there (seconds).
pub const PING_SECONDS: u64 = 7;
/// A peer from which nothing came for this long is gone (seconds).
pub const SILENCE_SECONDS: u64 = 20;
/// Longest time one frame may take to be written, even when it keeps moving (seconds).
pub const WRITE_SECONDS: u64 = 300;
/// What a node may send before its link is accepted (bytes).
pub const MAX_BEFORE_ACCEPT: usize = 64 * 1024;
/// How long the opening of a link may take from the upgrade to the verdict (seconds): a TPM makes a quote in it.
pub const LINK_OPEN_SECONDS: u64 = 60;

/// A text from outside made safe to show: at most [`MAX_TEXT`] characters, control characters replaced by `?`.
#[must_use]
pub fn clean_text(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
