//! `https://HOST[:PORT]/…` taken apart.

use http::Uri;
use rustls_pki_types::ServerName;

/// Where a URL points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host name or address, IPv6 without brackets.
    pub(crate) host: String,
    /// 443 when the URL names none.
    pub(crate) port: u16,
    /// As it goes in the `Host` header.
    pub(crate) authority: String,
    /// Path and query, starting with `/`.
    pub(crate) path: String,
}

impl Target {
    /// Takes a URL apart.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        if uri.scheme_str() != Some("https") {
            return Err(format!("{url}: only https:// is spoken"));
        }
        let authority = uri
            .authority()
            .filter(|authority| !authority.as_str().contains('@'))
            .ok_or_else(|| format!("{url}: a host is needed, and no user name"))?;
        let text = authority.as_str();
        let bad = || format!("{url}: host or port is not good");
        let port = match text.strip_prefix(authority.host()).ok_or_else(bad)? {
            "" => 443,
            // `Authority::port` says none where the port is not a number in range.
            _ => authority.port_u16().ok_or_else(bad)?,
        };
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() {
            return Err(bad());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            authority: text.to_owned(),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
        })
    }

    /// The name the server's certificate must carry.
    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, String> {
        ServerName::try_from(self.host.clone())
            .map_err(|_| format!("{:?} is neither a host name nor an address", self.host))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let cases = [
            ("https://a.example/x?y=1", "a.example", 443, "/x?y=1"),
            ("https://a:8890", "a", 8890, "/"),
            ("https://10.0.2.2:1/", "10.0.2.2", 1, "/"),
            ("https://[2001:db8::1]:8891/v1", "2001:db8::1", 8891, "/v1"),
        ];
        for (url, host, port, path) in cases {
            let target = Target::parse(url).unwrap();
            assert_eq!(
                (target.host.as_str(), target.port, target.path.as_str()),
                (host, port, path),
                "{url}"
            );
            assert!(target.server_name().is_ok(), "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "http://a",
            "wss://a",
            "a:1",
            "/v1",
            "",
            "https://",
            "https://user@a",
            "https://a:99999",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
