//! strongSwan's daemon in a network namespace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

const PLUGINS: &str = "random nonce pem pkcs1 pkcs8 pubkey x509 revocation constraints openssl \
    gcm hmac kdf kernel-libipsec kernel-netlink socket-default vici";

pub(crate) struct Charon {
    child: Child,
    folder: PathBuf,
}

impl Charon {
    pub(crate) fn start(namespace: &str, folder: &Path) -> Self {
        let settings = folder.join("strongswan.conf");
        let text = format!(
            "charon-systemd {{
                load = {PLUGINS}
                retransmit_tries = 2
                filelog {{ file {{ path = {folder}/charon.log
                    default = 1
                    flush_line = yes }} }}
                journal {{ default = -1 }}
                plugins {{
                    vici {{ socket = unix://{folder}/vici }}
                    revocation {{ enable_ocsp = no }}
                }}
            }}",
            folder = folder.display(),
        );
        fs::write(&settings, text).unwrap();
        let _ = fs::remove_file(folder.join("vici"));
        let child = Command::new("ip")
            .args(["netns", "exec", namespace, "charon-systemd"])
            .env("STRONGSWAN_CONF", &settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ip and charon-systemd");
        let charon = Self {
            child,
            folder: folder.to_owned(),
        };
        charon.wait_for_socket();
        charon
    }

    fn wait_for_socket(&self) {
        let begun = Instant::now();
        while !self.folder.join("vici").exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", self.log());
            sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("charon.log")).unwrap_or_default()
    }

    /// An independent view, by strongSwan's own tool.
    pub(crate) fn swanctl(&self, arguments: &[&str]) -> String {
        let output = Command::new("swanctl")
            .args(arguments)
            .args(["--uri", &format!("unix://{}/vici", self.folder.display())])
            .env("STRONGSWAN_CONF", self.folder.join("strongswan.conf"))
            .output()
            .expect("swanctl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Charon {
    fn drop(&mut self) {
        self.end();
    }
}
