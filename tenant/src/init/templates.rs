//! The texts of the configuration files.

use std::{net::SocketAddr, path::Path};

use bootkeep_protocol::Role;

use super::hosts::Hosts;
use crate::cli::Init;

/// What the folder of TPM makers' certificates is for.
pub(super) const EK_ROOTS_README: &str = "\
Certificates of the TPM makers you believe in: roots and intermediates, PEM or DER, files ending in .pem, .crt, .cer
or .der. A node whose EK certificate does not chain to one of them cannot register, and is given nothing.

The registrar reads registrar/ek-roots, `bootkeep` reads ek-roots: two separate checks, put each certificate into both.
Get them from the makers themselves (Infineon, STMicroelectronics, Intel, AMD, Nuvoton) and compare the fingerprints
with a second source. For software TPMs it is the certificate of the local CA of swtpm.
";

/// How a node hears of revocations; in `agent.yaml`.
pub(super) const REVOCATION: &str = "\
# Whose word on other nodes counts. With fail_closed_after_seconds the node also stops speaking IPsec when it has heard
# nothing of the verifier for so long.
revocation:
  keys: /etc/bootkeep/revocation.pem
#  fail_closed_after_seconds: 300
";

/// What the verifier signs with and whom it tells; in `verifier.yaml`.
pub(super) fn verifier_keys(ca: &str) -> [(&'static str, String); 3] {
    [
        ("revocation_key", "revocation.key".into()),
        ("policy_keys", "policy.pem".into()),
        ("ca", quoted(ca)),
    ]
}

/// Where certificates say that their state is found; in `ca.yaml`, beside the list's URL.
pub(super) fn ca_urls(crl: &str) -> [(&'static str, String); 2] {
    let base = crl.strip_suffix("/crl.der").unwrap_or(crl);
    [
        ("ocsp_url", quoted(&format!("{base}/ocsp"))),
        ("ca_url", quoted(&format!("{base}/ca.der"))),
    ]
}

/// Keys and values as lines of a YAML mapping.
pub(super) fn lines(pairs: &[(&str, String)]) -> String {
    pairs
        .iter()
        .map(|(key, value)| format!("{key}: {value}\n"))
        .collect()
}

/// A text as a double-quoted YAML scalar; JSON strings are such scalars.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(urls: &[String]) -> String {
    urls.iter()
        .map(|url| format!("\n  - {}", quoted(url)))
        .collect()
}

fn listen(options: &Init, port: u16) -> String {
    quoted(&SocketAddr::new(options.listen, port).to_string())
}

pub(super) fn tenant(options: &Init, hosts: &Hosts) -> String {
    format!(
        "# Where `bootkeep` finds the services. Paths are relative to this file.\n\
         registrar: {}\nverifier: {}\nca: {}\n\
         server_ca: ca.pem\ncertificate: tenant.pem\nkey: tenant.key\nek_roots: ek-roots\n\
         policy_key: policy.key\npolicy_keys: policy.pem\nrevocation_keys: revocation.pem\n\
         authorize_key: authorize.key\n",
        quoted(&hosts.tenant_url(options.registrar_port)),
        quoted(&hosts.tenant_url(options.verifier_port)),
        quoted(&hosts.tenant_url(options.ca_port)),
    )
}

pub(super) fn agent(options: &Init, hosts: &Hosts) -> String {
    format!(
        "# /etc/bootkeep/agent.yaml of every node. After a change: dracut -f\n\
         registrar:{}\nverifier:{}\nserver_ca: /etc/bootkeep/ca.pem\nvolume: {}\n\
         # How long the initramfs waits before it gives up, in seconds.\ndeadline_seconds: 600\n\
         # Whether a person at the console may then type the passphrase or a recovery key.\npassphrase: false\n\
         {REVOCATION}",
        list(&hosts.node_urls(options.registrar_port)),
        list(&hosts.node_urls(options.verifier_port)),
        quoted(&options.volume),
    )
}

pub(super) fn service(role: Role, options: &Init, hosts: &Hosts, folder: &Path) -> String {
    match role {
        Role::Registrar => registrar(options, folder),
        Role::Verifier => verifier(options, hosts, folder),
        _ => ca(options, hosts, folder),
    }
}

fn common(listen: &str, stem: &str, database: &Path) -> String {
    let database = format!("sqlite://{}", database.display());
    format!(
        "# Paths are relative to this file. A fleet takes a database like postgres://USER@HOST/NAME instead.\n\
         listen: {listen}\ncertificate: {stem}.pem\nkey: {stem}.key\nclient_ca: ca.pem\ndatabase: {}\n",
        quoted(&database)
    )
}

fn registrar(options: &Init, folder: &Path) -> String {
    let database = folder.join("registrar/registrar.db");
    common(
        &listen(options, options.registrar_port),
        "registrar",
        &database,
    ) + "ek_roots: ek-roots\n"
}

fn verifier(options: &Init, hosts: &Hosts, folder: &Path) -> String {
    let database = folder.join("verifier/verifier.db");
    let registrar = quoted(&hosts.tenant_url(options.registrar_port));
    common(
        &listen(options, options.verifier_port),
        "verifier",
        &database,
    ) + &format!("state_key: state.key\nregistrar: {registrar}\n")
        + &lines(&verifier_keys(&hosts.tenant_url(options.ca_port)))
}

fn ca(options: &Init, hosts: &Hosts, folder: &Path) -> String {
    let database = folder.join("ca/ca.db");
    let crl = hosts.crl_url(options.crl_port);
    common(&listen(options, options.ca_port), "ca-service", &database)
        + &format!(
            "state_key: state.key\n# Plain HTTP: the CRL is signed and public.\ncrl_listen: {}\ncrl_url: {}\n",
            listen(options, options.crl_port),
            quoted(&crl),
        )
        + &lines(&ca_urls(&crl))
}
