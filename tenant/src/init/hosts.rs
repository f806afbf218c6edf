//! Under which names the services are reached, and by whom.

use std::net::{IpAddr, Ipv6Addr};

use crate::{cli, Error};

/// Names that always fit: everything on one machine works without a network.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Checked names.
#[derive(Debug)]
pub(super) struct Hosts {
    names: Vec<String>,
    node: Vec<String>,
    tenant: String,
}

impl Hosts {
    pub(super) fn from_options(options: &cli::Init) -> Result<Self, Error> {
        let hosts = match options.host.is_empty() {
            false => options.host.clone(),
            true => vec![own_name()?],
        };
        let node = match options.node_host.is_empty() {
            false => options.node_host.clone(),
            true => vec![hosts[0].clone()],
        };
        let tenant = options.tenant_host.clone();
        let mut names = Vec::new();
        let local = LOCAL.map(String::from);
        for name in hosts.iter().chain(&node).chain([&tenant]).chain(&local) {
            if !is_host(name) {
                return Err(Error::Usage(format!(
                    "{name:?} is not a host name or address"
                )));
            }
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        Ok(Self {
            names,
            node,
            tenant,
        })
    }

    /// For certificates.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Where nodes dial.
    pub(super) fn node_urls(&self, port: u16) -> Vec<String> {
        self.node.iter().map(|host| url(host, port)).collect()
    }

    /// Where the tenant and other services ask.
    pub(super) fn tenant_url(&self, port: u16) -> String {
        url(&self.tenant, port)
    }

    /// Where anyone gets the CRL.
    pub(super) fn crl_url(&self, port: u16) -> String {
        let host = self.node.first().unwrap_or(&self.tenant);
        format!("{}/crl.der", url(host, port).replacen("https:", "http:", 1))
    }
}

fn own_name() -> Result<String, Error> {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .map_err(|error| {
            Error::Usage(format!(
                "this machine's name is not known ({error}); name it with --host"
            ))
        })
}

fn is_host(name: &str) -> bool {
    if name.parse::<IpAddr>().is_ok() {
        return true;
    }
    let good_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(good_label)
}

fn url(host: &str, port: u16) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("https://[{address}]:{port}"),
        Err(_) => format!("https://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["host", "a.example", "10.0.2.2", "fd00::1", "xn--bcher-kva"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "a b", "a\nb", "-a", "https://a", "a:1", "a..b", "\"x"] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn addresses_become_urls() {
        assert_eq!(url("fd00::1", 1), "https://[fd00::1]:1");
        assert_eq!(url("10.0.2.2", 2), "https://10.0.2.2:2");
    }
}
