//! strongSwan's daemon in a network namespace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{kill, Signal},
    unistd::Pid,
};

const PLUGINS: &str = "random nonce pem pkcs1 pkcs8 pubkey x509 revocation constraints openssl \
    gcm hmac kdf";

/// Who does ESP.
#[derive(Clone, Copy)]
pub(crate) enum Esp {
    /// charon, with a TUN device.
    UserSpace,
    /// The kernel. It may not know ESP, yet it has the policies.
    Kernel,
}

pub(crate) struct Charon {
    child: Child,
    folder: PathBuf,
    namespace: String,
    esp: Esp,
}

impl Charon {
    pub(crate) fn start(namespace: &str, esp: Esp, folder: &Path) -> Self {
        let in_user_space = match esp {
            Esp::UserSpace => "kernel-libipsec",
            Esp::Kernel => "",
        };
        let settings = folder.join("strongswan.conf");
        let text = format!(
            "charon-systemd {{
                load = {PLUGINS} {in_user_space} kernel-netlink socket-default vici
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
            namespace: namespace.to_owned(),
            esp,
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

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// Ends it without farewell, and starts another in its place.
    pub(crate) fn replace(&mut self) {
        self.end();
        let another = Self::start(&self.namespace, self.esp, &self.folder);
        *self = another;
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
