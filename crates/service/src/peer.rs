//! Who is at the other end of a connection.

use std::{convert::Infallible, net::SocketAddr};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
};
use bootkeep_protocol::{Problem, ProblemKind, Role, EXPORTER_LEN};

use crate::ProblemResponse;

/// The peer of a TLS connection. An extractor; requests that did not come over TLS have none and are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it called from.
    pub address: SocketAddr,
    /// The role in its certificate, which chains to our CA; `None` without a certificate or a role in it.
    pub role: Option<Role>,
    /// TLS exporter of the connection ([`bootkeep_protocol::EXPORTER_LABEL`]).
    pub exporter: [u8; EXPORTER_LEN],
}

impl Peer {
    /// The peer's role, when it is one of these.
    ///
    /// # Errors
    /// A refusal of kind `forbidden`.
    pub fn require(&self, roles: &[Role]) -> Result<Role, Problem> {
        match self.role {
            Some(role) if roles.contains(&role) => Ok(role),
            Some(role) => Err(forbidden(
                "wrong-role",
                format!("a certificate with the role {role} may not do this"),
            )),
            None => Err(forbidden(
                "no-certificate",
                "this needs a client certificate with a role".into(),
            )),
        }
    }
}

fn forbidden(code: &str, detail: String) -> Problem {
    Problem::new(ProblemKind::Forbidden, code, detail)
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        let peer = parts.extensions.get::<Self>().copied();
        peer.ok_or_else(|| forbidden("no-tls", "this is only served over TLS".into()).into())
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_roles_pass() {
        let peer = |role| Peer {
            address: ([127, 0, 0, 1], 1).into(),
            role,
            exporter: [0; EXPORTER_LEN],
        };
        let wanted = [Role::Tenant, Role::Verifier];
        for role in Role::ALL {
            let passes = peer(Some(role)).require(&wanted).is_ok();
            assert_eq!(passes, wanted.contains(&role), "{role}");
        }
        assert!(peer(None).require(&Role::ALL).is_err());
        assert!(peer(Some(Role::Tenant)).require(&[]).is_err());
    }
}
