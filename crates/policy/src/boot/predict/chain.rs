//! What each event of the last boot is to the boot chain.

use bootkeep_evidence::eventlog::{kind, Claim, Event, EventLog};

use super::{error::PredictError, files::NextBoot};
use crate::boot::grub::is_command_line;

/// Where QEMU's own loader shows the kernel it was given to the firmware (EDK2, `QemuKernelLoaderFs`).
const FROM_QEMU: &str = "VenMedia(1428f772-b64a-441e-b8c3-9ebdd7f893c7)";
/// Commands of GRUB before a kernel's path.
const LINUX: [&str; 3] = ["linux", "linuxefi", "linux16"];
/// And before those of its initramfs.
const INITRD: [&str; 3] = ["initrd", "initrdefi", "initrd16"];

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// shim, GRUB, systemd-boot (PCR 4).
    Loader,
    /// A kernel that is a file of its own (PCR 4).
    Kernel,
    /// The same, from QEMU.
    QemuKernel,
    /// A unified kernel image (PCR 4).
    Uki,
    /// The kernel in it (PCR 4).
    UkiKernel,
    /// Names and contents of its sections (PCR 11).
    Sections,
    /// A string of GRUB (PCR 8).
    Command,
    /// Files GRUB read (PCR 9).
    GrubKernel,
    GrubInitrd,
    GrubConfig,
    GrubFile,
    /// What the kernel's EFI stub measured (PCR 9).
    LoadOptions,
    Initrd,
    /// The command line of a boot loader (PCR 12).
    Line,
    /// Nothing that a file of the boot changes.
    Other,
}

/// One event of the last boot.
pub(super) struct Link<'a> {
    pub(super) event: &'a Event,
    pub(super) claim: Claim<'a>,
    pub(super) role: Role,
}

/// The last boot.
pub(super) struct Chain<'a> {
    pub(super) links: Vec<Link<'a>>,
    /// Path of the kernel that GRUB started.
    pub(super) kernel: Option<String>,
    /// Paths of the initramfs files it loaded.
    pub(super) initrds: Vec<String>,
}

impl<'a> Chain<'a> {
    pub(super) fn of(log: &'a EventLog) -> Result<Self, PredictError> {
        let links = log.events().iter().map(link).collect::<Result<_, _>>()?;
        let mut chain = Self {
            links,
            kernel: None,
            initrds: Vec::new(),
        };
        chain.name_paths();
        chain.name_images();
        chain.name_files();
        Ok(chain)
    }

    pub(super) fn has(&self, role: Role) -> bool {
        self.links.iter().any(|link| link.role == role)
    }

    /// Command lines that the log holds as text: those of GRUB begin with the kernel's path.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.links.iter().filter_map(|link| match &link.claim {
            Claim::Text(text)
                if link.role == Role::Line
                    || link.role == Role::Command && is_command_line(&text.text) =>
            {
                Some(text.text.as_str())
            }
            _ => None,
        })
    }

    fn name_paths(&mut self) {
        let kernel = self.lines().next().and_then(|line| line.split(' ').next());
        self.kernel = kernel
            .filter(|path| is_command_line(path))
            .map(str::to_owned);
        self.initrds = self.links.iter().flat_map(initrd_paths).collect();
    }

    /// Images of PCR 4: before the image whose sections are in PCR 11, or before GRUB speaks, are boot loaders.
    fn name_images(&mut self) {
        let first = |role: Role| self.links.iter().position(|link| link.role == role);
        let (sections, grub) = (first(Role::Sections), first(Role::Command));
        let images: Vec<usize> = (0..self.links.len())
            .filter(|&at| is_image(self.links.get(at)))
            .collect();
        let last = images.last().copied();
        let uki = sections.and_then(|end| images.iter().rev().find(|at| **at < end).copied());
        for at in images {
            let Some(link) = self.links.get_mut(at) else {
                continue;
            };
            link.role = match (uki, grub) {
                (Some(uki), _) if at == uki => Role::Uki,
                (Some(uki), _) if at > uki => Role::UkiKernel,
                (None, Some(grub)) if at > grub => Role::Kernel,
                (None, None) if Some(at) == last => kernel_role(link),
                _ => Role::Loader,
            };
        }
    }

    /// Files of PCR 9 that GRUB read: the data is the path.
    fn name_files(&mut self) {
        let (kernel, initrds) = (self.kernel.clone(), self.initrds.clone());
        let mut config = None;
        for (at, link) in self.links.iter_mut().enumerate() {
            let Claim::Opaque(file) = &link.claim else {
                continue;
            };
            let path = file.hint();
            if link.event.pcr != 9 || !path.starts_with(['/', '(']) {
                continue;
            }
            let path = without_device(&path);
            link.role = match path {
                _ if kernel.as_deref().map(without_device) == Some(path) => Role::GrubKernel,
                _ if initrds.iter().any(|initrd| without_device(initrd) == path) => {
                    Role::GrubInitrd
                }
                _ => Role::GrubFile,
            };
            // The first one may be that of the ESP, which only leads to the other.
            if path.ends_with("/grub.cfg") {
                config = Some(at);
            }
        }
        if let Some(link) = config.and_then(|at| self.links.get_mut(at)) {
            link.role = Role::GrubConfig;
        }
    }

    /// Every file has an event whose place it takes.
    pub(super) fn takes(&self, next: &NextBoot) -> Result<(), PredictError> {
        use Role::*;
        let initrd: &[Role] = match self.has(Uki) {
            // It is inside the image.
            true => &[],
            false => &[GrubInitrd, Initrd],
        };
        let files: [(bool, &[Role], _, _); 5] = [
            (
                next.kernel.is_some(),
                &[Kernel, QemuKernel, GrubKernel],
                "a kernel that is a file of its own",
                "the new kernel",
            ),
            (
                next.initrd.is_some(),
                initrd,
                "an initramfs that is a file of its own",
                "the new initramfs",
            ),
            (
                next.uki.is_some(),
                &[Uki],
                "a unified kernel image (PCR 11)",
                "the new image",
            ),
            (
                next.config.is_some(),
                &[GrubConfig],
                "a grub.cfg (PCR 9)",
                "the new one",
            ),
            (
                next.command_line.is_some(),
                &[LoadOptions, Line, Command],
                "the kernel's command line",
                "the new one",
            ),
        ];
        let lost = files
            .into_iter()
            .find(|(wanted, roles, ..)| *wanted && !roles.iter().any(|role| self.has(*role)));
        lost.map_or(Ok(()), |(_, _, old, new)| {
            Err(PredictError::NoPlace(old, new))
        })
    }
}

fn link(event: &Event) -> Result<Link<'_>, PredictError> {
    let claim = event.claim().map_err(|error| PredictError::Log {
        event: event.to_string(),
        problem: error.to_string(),
    })?;
    let role = match (&claim, event.pcr) {
        (Claim::Section(_), 11) => Role::Sections,
        (Claim::Opaque(_) | Claim::Text(_) | Claim::Data(_), 11) => Role::Sections,
        (Claim::Text(_), 8) => Role::Command,
        (Claim::Text(_), 12) => Role::Line,
        (Claim::Opaque(found), 9) if event.event_type == kind::EV_EVENT_TAG => {
            match (found.says_load_options(), found.says_initrd()) {
                (true, _) => Role::LoadOptions,
                (_, true) => Role::Initrd,
                _ => Role::Other,
            }
        }
        _ => Role::Other,
    };
    Ok(Link { event, claim, role })
}

fn is_image(link: Option<&Link<'_>>) -> bool {
    link.is_some_and(|link| link.event.pcr == 4 && matches!(link.claim, Claim::Opaque(_)))
}

fn kernel_role(link: &Link<'_>) -> Role {
    let from_qemu =
        matches!(&link.claim, Claim::Opaque(image) if image.hint().starts_with(FROM_QEMU));
    match from_qemu {
        true => Role::QemuKernel,
        false => Role::Kernel,
    }
}

fn initrd_paths(link: &Link<'_>) -> Vec<String> {
    let Claim::Text(text) = &link.claim else {
        return Vec::new();
    };
    let mut words = text.text.split(' ');
    if link.role != Role::Command || !words.next().is_some_and(|word| INITRD.contains(&word)) {
        return Vec::new();
    }
    words
        .filter(|word| is_command_line(word))
        .map(str::to_owned)
        .collect()
}

/// Whether a string is GRUB's command that loads a kernel.
pub(super) fn loads_kernel(text: &str) -> bool {
    let word = text.split(' ').next().unwrap_or_default();
    LINUX.contains(&word)
}

/// `(hd0,gpt2)/vmlinuz` without what stands in brackets.
fn without_device(path: &str) -> &str {
    match path.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((_, path)) => path,
        None => path,
    }
}
