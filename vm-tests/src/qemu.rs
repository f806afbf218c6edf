//! The virtual machine.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    command::Background,
    serial::{Serial, Watcher},
    swtpm::SoftTpm,
};

/// UEFI firmware that measures.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Its empty variable store.
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Hardware addresses of the interfaces to the host; the last byte counts the machines. The first is QEMU's own default.
/// The guest's end of the command channel finds its port by it.
const TO_HOST: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
/// Of the interfaces to the other machines.
const TO_OTHERS: [u8; 6] = [0x52, 0x54, 0x00, 0x10, 0xc4, 0x01];
/// The wire between machines: each sends to all, inside this computer's loopback.
const WIRE: &str = "socket,id=others,mcast=230.0.0.1:8199,localaddr=127.0.0.1";

/// A cloud's metadata service, named as clouds name it: in the SMBIOS serial number.
const SEED: &str = "type=1,serial=ds=nocloud-net;s=http://10.0.2.2:8099/seed/";

/// Which firmware boots the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// Quick; kernel, initramfs and command line are not measured.
    SeaBios,
    /// UEFI; command line and initramfs are measured into PCR 9, the kernel into PCR 4.
    Ovmf,
}

/// A disk, and what becomes of what is written to it.
#[derive(Clone, Copy, Debug)]
pub enum Disk<'a> {
    /// Thrown away.
    Fresh(&'a Path),
    /// Kept, also when the machine's power is cut: what the machine has given out is in the file.
    Own(&'a Path),
}

/// A machine as it is switched on.
#[derive(Debug)]
pub struct Machine<'a> {
    /// Its firmware.
    pub firmware: Firmware,
    /// Kernel.
    pub kernel: &'a Path,
    /// Initramfs.
    pub initrd: &'a Path,
    /// Kernel command line.
    pub cmdline: &'a str,
    /// Disk of the root.
    pub disk: Disk<'a>,
    /// A further disk.
    pub second_disk: Option<&'a Path>,
    /// What QEMU's user network is to be, as its own options (`ipv4=off`).
    pub network: &'a str,
    /// A further network interface that nobody answers on.
    pub idle_nic: bool,
    /// Which of the machines that run at the same time it is, counted from 0.
    pub number: u8,
    /// Whether it has an interface to the other machines.
    pub on_wire: bool,
    /// Ports of the host's loopback interface, and which ports of the machine they lead to.
    pub forwards: &'a [(u16, u16)],
}

/// A running machine. It is switched off when this is dropped.
#[derive(Debug)]
pub struct Vm {
    process: Background,
    keyboard: ChildStdin,
    /// Its console.
    pub serial: Serial,
    /// When it was switched on.
    pub started: Instant,
}

impl Machine<'_> {
    /// Switches it on. `directory` gets `serial.log` and `qemu.log`.
    ///
    /// # Errors
    /// When QEMU cannot start.
    pub fn start(&self, tpm: &SoftTpm, directory: &Path, watcher: Watcher) -> Result<Vm> {
        let mut command = Command::new("qemu-system-x86_64");
        command
            // One CPU: the kernel patches its own code while it runs, and under emulation a second CPU now and then
            // goes on in the old code for ever (a soft lockup).
            .args([
                "-machine",
                "q35",
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
                "-smp",
                "1",
                "-m",
                "1024",
            ])
            .args([
                "-display",
                "none",
                "-no-reboot",
                "-serial",
                "stdio",
                "-monitor",
                "none",
            ])
            .args(self.network())
            .args(["-device", "virtio-rng-pci", "-smbios", SEED])
            .args(tpm.qemu_arguments())
            .args(["-append", self.cmdline])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initrd);
        let disks = [Some(self.disk), self.second_disk.map(Disk::Fresh)];
        for disk in disks.into_iter().flatten() {
            command.args(["-drive", &disk.drive()]);
        }
        if self.firmware == Firmware::Ovmf {
            command.args(ovmf(directory)?);
        }
        run(command, directory, watcher)
    }
}

impl Machine<'_> {
    fn network(&self) -> Vec<String> {
        let options = match self.network {
            "" => String::new(),
            options => format!(",{options}"),
        };
        let forwards = self
            .forwards
            .iter()
            .map(|(host, guest)| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
        let mut arguments = vec![
            "-netdev".to_owned(),
            format!("user,id=net{options}{}", forwards.collect::<String>()),
        ];
        arguments.extend(nic("net", &hardware_address(TO_HOST, self.number)));
        if self.on_wire {
            arguments.extend(["-netdev".into(), WIRE.into()]);
            arguments.extend(nic("others", &wire_address(self.number)));
        }
        if self.idle_nic {
            arguments.extend(["-device".into(), "virtio-net-pci,romfile=".into()]);
        }
        arguments
    }
}

impl Disk<'_> {
    fn drive(self) -> String {
        let (path, snapshot) = match self {
            Self::Fresh(path) => (path, "on"),
            Self::Own(path) => (path, "off"),
        };
        format!(
            "file={},if=virtio,format=raw,snapshot={snapshot},cache=unsafe",
            path.display()
        )
    }
}

fn nic(network: &str, address: &str) -> [String; 2] {
    let device = format!("virtio-net-pci,netdev={network},mac={address},romfile=");
    ["-device".into(), device]
}

/// The hardware address of a machine's interface to the other machines.
#[must_use]
pub fn wire_address(number: u8) -> String {
    hardware_address(TO_OTHERS, number)
}

fn hardware_address(mut first: [u8; 6], number: u8) -> String {
    first[5] += number;
    first.map(|byte| format!("{byte:02x}")).join(":")
}

fn ovmf(directory: &Path) -> Result<Vec<String>> {
    let vars: PathBuf = directory.join("ovmf-vars.fd");
    fs::copy(OVMF_VARS, &vars).with_context(|| format!("cannot copy {OVMF_VARS}"))?;
    let flash = |unit, more: &str, file: &Path| {
        [
            "-drive".into(),
            format!(
                "if=pflash,format=raw,unit={unit}{more},file={}",
                file.display()
            ),
        ]
    };
    Ok([
        flash(0, ",readonly=on", Path::new(OVMF_CODE)),
        flash(1, "", &vars),
    ]
    .concat())
}

fn run(mut command: Command, directory: &Path, watcher: Watcher) -> Result<Vm> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(directory.join("qemu.log"))?);
    let started = Instant::now();
    let mut process = Background::spawn("qemu", &mut command)?;
    let keyboard = process
        .child()
        .stdin
        .take()
        .context("QEMU has no keyboard")?;
    let console = process
        .child()
        .stdout
        .take()
        .context("QEMU has no console")?;
    let log = File::create(directory.join("serial.log"))?;
    let serial = Serial::follow(console, log, started, watcher);
    Ok(Vm {
        process,
        keyboard,
        serial,
        started,
    })
}

impl Vm {
    /// Whether it is on.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Types at the console, with Enter.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn type_line(&mut self, text: &[u8]) -> Result<()> {
        self.keyboard.write_all(text)?;
        self.keyboard.write_all(b"\n")?;
        Ok(self.keyboard.flush()?)
    }

    /// Switches it off, without asking it.
    pub fn switch_off(&mut self) {
        self.process.kill();
    }

    /// Waits until it has switched itself off; says whether it has.
    pub fn wait_until_off(&mut self, limit: Duration) -> bool {
        self.process.wait_until_gone(limit)
    }
}
