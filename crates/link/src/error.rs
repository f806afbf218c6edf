//! What can go wrong on a link, and with the material TLS is set up from.

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or no certificate in it.
    #[error("no certificate could be read from the PEM text: {0}")]
    Certificate(String),
    /// Not PEM, or no private key in it.
    #[error("no private key could be read from the PEM text")]
    Key,
    /// The pieces do not fit together.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
    /// The roots make no verifier.
    #[error("the CA certificates cannot be used: {0}")]
    Roots(String),
}

/// Why a link could not be opened, or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The TLS material is not good.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nothing to dial.
    #[error("no verifier is configured")]
    NoUrl,
    /// Every address was tried.
    #[error("no verifier could be reached: {}", .0.join("; "))]
    Unreachable(Vec<String>),
    /// The connection broke.
    #[error("the link broke: {0}")]
    Transport(String),
    /// Nothing came from the peer for [`SILENCE_SECONDS`](bootkeep_protocol::limits::SILENCE_SECONDS).
    #[error("the peer has been silent for {0} s")]
    Silent(u64),
    /// A frame could not be written in time.
    #[error("the peer has not taken a frame in {0} s")]
    Stuck(u64),
    /// The peer sent a binary frame.
    #[error("the peer sent a binary frame; frames are JSON text")]
    Binary,
    /// The peer sent something that is not the JSON expected.
    #[error("the peer sent a frame that cannot be read, at line {line}, column {column}")]
    Json {
        /// Line in the frame.
        line: usize,
        /// Column in the line.
        column: usize,
    },
    /// A frame over its limit, in either direction.
    #[error("a frame is over its limit of {0} bytes")]
    TooLarge(usize),
    /// The link has ended; the receiver has the reason.
    #[error("the link has ended")]
    Ended,
}
