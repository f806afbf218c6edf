//! The program itself: its configuration, its readiness, its end.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Output, Stdio},
};

use bootkeep_link::{ClientTls, HttpClient};
use bootkeep_pki::identity::Authority;
use bootkeep_protocol::{registrar::NodeRecord, Role};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bootkeep-registrar");

/// A folder as the owner's set-up makes it.
fn folder(authority: &Authority) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let identity = authority
        .issue_service(Role::Registrar, &["127.0.0.1".into()])
        .unwrap();
    fs::write(path.join("ca.pem"), authority.certificate_pem()).unwrap();
    fs::write(path.join("registrar.pem"), &identity.certificate_pem).unwrap();
    fs::write(path.join("registrar.key"), identity.key_pem.as_bytes()).unwrap();
    fs::create_dir(path.join("ek-roots")).unwrap();
    fs::write(
        path.join("registrar.yaml"),
        format!(
            "listen: 127.0.0.1:0\ncertificate: registrar.pem\nkey: registrar.key\nclient_ca: ca.pem\n\
             database: sqlite://{}/registrar.db\nek_roots: ek-roots\n",
            path.display()
        ),
    )
    .unwrap();
    folder
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(folder.join("registrar.yaml"));
    command
}

fn check(folder: &Path) -> Output {
    command(folder).arg("check").output().unwrap()
}

#[test]
fn check_names_what_is_wrong() {
    let authority = Authority::generate("owner").unwrap();
    let folder = folder(&authority);
    let path = folder.path();
    let good = check(path);
    assert!(good.status.success(), "{good:?}");
    assert!(
        !path.join("registrar.db").exists(),
        "a check makes no database"
    );
    let yaml = fs::read_to_string(path.join("registrar.yaml")).unwrap();
    fs::write(path.join("ek-roots/x.pem"), "nothing").unwrap();
    let bad = check(path);
    assert!(!bad.status.success() && String::from_utf8_lossy(&bad.stderr).contains("x.pem"));
    fs::remove_file(path.join("ek-roots/x.pem")).unwrap();
    for (change, named) in [
        ("insecure: true\n", "insecure"),
        ("metrics_listen: [1]\n", "metrics_listen"),
    ] {
        fs::write(path.join("registrar.yaml"), yaml.clone() + change).unwrap();
        let bad = check(path);
        let said = String::from_utf8_lossy(&bad.stderr).into_owned();
        assert!(!bad.status.success() && said.contains(named), "{said}");
    }
}

#[tokio::test]
async fn it_serves_says_so_and_ends_when_asked() {
    let authority = Authority::generate("owner").unwrap();
    let folder = folder(&authority);
    let notify = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&notify).unwrap();
    let mut process = command(folder.path())
        .env("NOTIFY_SOCKET", &notify)
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let address = lines
        .find_map(|line| {
            let line = line.unwrap();
            let (_, address) = line.split_once("listening address=")?;
            Some(address.trim().to_owned())
        })
        .unwrap();
    let mut message = [0; 64];
    let length = systemd.recv(&mut message).unwrap();
    assert!(message[..length].starts_with(b"READY=1"));

    let tenant = authority.issue_service(Role::Tenant, &[]).unwrap();
    let tls = ClientTls::with_identity(
        authority.certificate_pem().as_bytes(),
        tenant.certificate_pem.as_bytes(),
        tenant.key_pem.as_bytes(),
    )
    .unwrap();
    let client = HttpClient::new(tls, Role::Registrar);
    let url = format!("https://{address}/v1/nodes");
    assert!(client
        .get::<Vec<NodeRecord>>(&url)
        .await
        .unwrap()
        .is_empty());

    let asked = Command::new("kill")
        .arg(process.id().to_string())
        .status()
        .unwrap();
    assert!(asked.success());
    let _ = lines.count();
    assert!(process.wait().unwrap().success());
}
