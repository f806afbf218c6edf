//! The program itself: its configuration, its readiness, its end.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    process::{Command, Output, Stdio},
};

use bootkeep_ca::{Ca, Lifetimes, Urls};
use bootkeep_link::{ClientTls, HttpClient};
use bootkeep_pki::{identity::Authority, state_key::StateKey};
use bootkeep_protocol::{ca::CertificateRecord, Role};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bootkeep-ca");

/// A folder as the owner's set-up makes it.
fn folder(authority: &Authority) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let identity = authority
        .issue_service(Role::Ca, &["127.0.0.1".into()])
        .unwrap();
    fs::write(path.join("ca.pem"), authority.certificate_pem()).unwrap();
    fs::write(path.join("ca-service.pem"), &identity.certificate_pem).unwrap();
    fs::write(path.join("ca-service.key"), identity.key_pem.as_bytes()).unwrap();
    let key = path.join("state.key");
    fs::write(&key, &**StateKey::generate().unwrap()).unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(
        path.join("ca.yaml"),
        format!(
            "listen: 127.0.0.1:0\ncertificate: ca-service.pem\nkey: ca-service.key\nclient_ca: ca.pem\n\
             database: sqlite://{}/ca.db\nstate_key: state.key\n\
             crl_listen: 127.0.0.1:0\ncrl_url: http://127.0.0.1/crl.der\n",
            path.display()
        ),
    )
    .unwrap();
    folder
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(folder.join("ca.yaml"));
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
    assert!(!path.join("ca.db").exists(), "a check makes no database");
    let yaml = fs::read_to_string(path.join("ca.yaml")).unwrap();
    let key = path.join("state.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let bad = check(path);
    assert!(!bad.status.success() && String::from_utf8_lossy(&bad.stderr).contains("chmod 600"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    for (change, named) in [
        ("insecure: true\n", "insecure"),
        ("lifetimes: {crl_hours: -1}\n", "crl_hours"),
    ] {
        fs::write(path.join("ca.yaml"), yaml.clone() + change).unwrap();
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
    let client = HttpClient::new(tls, Role::Ca);
    let url = format!("https://{address}/v1/certificates");
    assert!(client
        .get::<Vec<CertificateRecord>>(&url)
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

#[tokio::test]
async fn a_backup_comes_back_and_nothing_is_overwritten() {
    let authority = Authority::generate("owner").unwrap();
    let folder = folder(&authority);
    let path = folder.path();
    let database = path.join("ca.db");
    let urls = Urls {
        crl: "http://127.0.0.1/crl.der".into(),
        ocsp: None,
        ca: None,
    };
    let key = StateKey::load(&path.join("state.key")).unwrap();
    let url = format!("sqlite://{}", database.display());
    drop(
        Ca::open(&url, &key, urls, Lifetimes::default())
            .await
            .unwrap(),
    );
    let out = path.join("backup");
    let run = |arguments: &[&str]| command(path).args(arguments).output().unwrap();
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let made = run(&["backup", "--out", out.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let mode = fs::metadata(&out).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let from = ["restore", "--from", out.to_str().unwrap()];
    let asked = run(&from);
    assert_eq!(asked.status.code(), Some(2));
    assert!(said(&asked).contains("--last-crl"), "{asked:?}");
    let all = [&from[..], &["--last-crl", "none"]].concat();
    let refused = run(&all);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("nothing is overwritten"));
    fs::rename(&database, path.join("lost.db")).unwrap();
    let restored = run(&all);
    assert!(restored.status.success(), "{restored:?}");
    assert!(database.exists());
}
