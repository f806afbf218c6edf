//! The event log of the next boot, from that of the last one and the files that change.
//!
//! Each event of the last boot that a changed file is measured in is replaced by what the new file will give; all others
//! stay. An event whose digest cannot be known stays as it was and leaves its PCR [`Open`]: nothing may be signed over it.
//!
//! | boot chain | PCR 4 | others |
//! |---|---|---|
//! | kernel given to the firmware (QEMU, systemd-boot's entries) | boot loaders, kernel | 9: command line, initramfs; 12: command line |
//! | unified kernel image | boot loaders, image, the kernel in it | 11: sections; 9: command line, initramfs |
//! | shim and GRUB | boot loaders, kernel | 8: commands, command line; 9: files GRUB reads |
//!
//! PCR 7 is taken to stay: new images are signed by those who signed the old ones.

mod chain;
mod cpio;
mod error;
mod files;
mod line;
mod menu;
mod qemu;
mod rename;
mod uki;

use std::collections::BTreeSet;

use bootkeep_evidence::{
    eventlog::{Claim, Event, EventLog},
    ClockInfo, PcrValues,
};

pub use error::{Open, PredictError, Why};
pub use files::{sha256, NewConfig, NewKernel, NewLoader, NewUki, NextBoot};
pub use qemu::as_qemu_hands_over;
pub use rename::Rename;
pub use uki::{UkiContents, UkiError};

use crate::appraise::KnownGood;

use super::{document::PhaseRule, grub::is_command_line, phases};
use chain::{loads_kernel, Chain, Link, Role};
use menu::{defines_entry, entries, Entry};

/// Longest command line and version (characters): the kernel's `COMMAND_LINE_SIZE` on x86 is 2048.
const MAX_TEXT: usize = 4096;
const IMAGE: u8 = 11;

/// The next boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicted {
    /// Its event log; events of open PCRs are those of the last boot.
    pub log: EventLog,
    /// Events that cannot be foretold.
    pub open: Vec<Open>,
    /// What the firmware or boot loader gives the kernel, when the log will hold only its digest and it is known.
    pub load_options: Option<String>,
    /// The new unified kernel image's own signatures of PCR 11.
    pub signatures: Option<Vec<u8>>,
}

impl Predicted {
    /// The PCRs that cannot be foretold.
    #[must_use]
    pub fn open_pcrs(&self) -> BTreeSet<u8> {
        self.open.iter().map(|open| open.pcr).collect()
    }

    /// The values when the log has ended.
    #[must_use]
    pub fn pcrs(&self) -> PcrValues {
        self.log.replay()
    }

    /// As a known-good boot, to make policies from.
    #[must_use]
    pub fn known_good(&self, clock: ClockInfo) -> KnownGood {
        KnownGood {
            pcrs: self.pcrs(),
            event_log: Some(self.log.clone()),
            pcr_signatures: self.signatures.clone(),
            ima: Vec::new(),
            clock,
        }
    }

    /// The values the initramfs may see: PCR 11 goes on with the boot's phases (systemd-pcrphase).
    #[must_use]
    pub fn pcrs_in_initramfs(&self) -> Vec<PcrValues> {
        initramfs_values(&self.pcrs())
    }
}

/// Values of the PCRs in the initramfs, from those at the end of the event log: without systemd-stub (PCR 11 zero)
/// nothing follows, else PCR 11 goes on with the phases of [`PhaseRule::initramfs`].
#[must_use]
pub fn initramfs_values(logged: &PcrValues) -> Vec<PcrValues> {
    let Some(image) = logged.get(IMAGE).filter(|value| **value != [0; 32]) else {
        return vec![logged.clone()];
    };
    let paths = PhaseRule::default().initramfs;
    let values = paths.iter().map(|path| {
        let mut values = logged.clone();
        values.set(IMAGE, phases::after(image, path));
        values
    });
    values.collect()
}

/// The version in the name of the kernel that GRUB started in the last boot: `6.1.0-50-amd64` of
/// `/vmlinuz-6.1.0-50-amd64`.
#[must_use]
pub fn kernel_version(log: &EventLog) -> Option<String> {
    let chain = Chain::of(log).ok()?;
    let words = chain.lines().flat_map(|line| line.split([' ', '=']));
    let mut names = words.filter_map(|word| word.rsplit(['/', '\\']).next());
    names.find_map(version_in_name)
}

/// `6.1.0-50-amd64` of `vmlinuz-6.1.0-50-amd64`.
#[must_use]
pub fn version_in_name(name: &str) -> Option<String> {
    let names = ["vmlinuz-", "vmlinux-", "kernel-", "linux-"];
    let version = names.iter().find_map(|start| name.strip_prefix(start))?;
    let version = version.strip_suffix(".efi").unwrap_or(version);
    version
        .starts_with(|c: char| c.is_ascii_digit())
        .then(|| version.to_owned())
}

/// Foretells the boot after this one.
///
/// # Errors
/// [`PredictError`] when a file has no place in this boot, or the log lies about itself.
pub fn predict(log: &EventLog, next: &NextBoot) -> Result<Predicted, PredictError> {
    check_texts(next)?;
    let chain = Chain::of(log)?;
    chain.takes(next)?;
    let config = next.config.as_ref().and_then(|config| config.text.as_ref());
    let mut predictor = Predictor {
        next,
        chain: &chain,
        menu: config.map(|text| entries(text)),
        load_options: None,
        sections_done: false,
    };
    predictor.check_loaders()?;
    let (mut events, mut open) = (Vec::new(), Vec::new());
    for link in &chain.links {
        match predictor.step(link) {
            Step::Same => events.push(link.event.clone()),
            Step::Become(new) => events.extend(new),
            Step::Unknown(why) => {
                open.push(Open {
                    pcr: link.event.pcr,
                    number: link.event.number,
                    event: link.event.to_string(),
                    why,
                });
                events.push(link.event.clone());
            }
        }
    }
    Ok(Predicted {
        log: log.with_events(events),
        open,
        load_options: predictor.load_options,
        signatures: contents(next).and_then(|contents| contents.signatures.clone()),
    })
}

fn contents(next: &NextBoot) -> Option<&UkiContents> {
    next.uki.as_ref()?.contents.as_ref()
}

/// Where files of a boot have their events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Names of boot loaders' files, in their order.
    pub loaders: Vec<String>,
    /// Whether the kernel is a file of its own.
    pub kernel: bool,
    /// Whether the initramfs is.
    pub initrd: bool,
    /// Whether it is a unified kernel image.
    pub uki: bool,
    /// Whether GRUB reads a configuration.
    pub config: bool,
}

impl Places {
    /// Of this boot.
    ///
    /// # Errors
    /// [`PredictError::Log`] when the log lies about itself.
    pub fn of(log: &EventLog) -> Result<Self, PredictError> {
        let chain = Chain::of(log)?;
        let has = |roles: &[Role]| roles.iter().any(|role| chain.has(*role));
        let loaders = chain.links.iter().filter(|link| link.role == Role::Loader);
        Ok(Self {
            loaders: loaders.map(file_name).collect(),
            kernel: has(&[Role::Kernel, Role::QemuKernel, Role::GrubKernel]),
            initrd: has(&[Role::GrubInitrd, Role::Initrd]) && !has(&[Role::Uki]),
            uki: has(&[Role::Uki]),
            config: has(&[Role::GrubConfig]),
        })
    }
}

fn check_texts(next: &NextBoot) -> Result<(), PredictError> {
    let rename = next.rename.as_ref();
    let texts = [
        ("the command line", next.command_line.as_ref()),
        ("the kernel's version", rename.map(|rename| &rename.from)),
        ("the kernel's version", rename.map(|rename| &rename.to)),
    ];
    for (what, text) in texts {
        if text.is_some_and(|text| text.len() > MAX_TEXT) {
            return Err(PredictError::TooLong(what, MAX_TEXT));
        }
    }
    Ok(())
}

/// What becomes of an event.
enum Step {
    Same,
    Become(Vec<Event>),
    Unknown(Why),
}

impl Step {
    fn text(event: &Event, text: &str) -> Self {
        event
            .with_text(text)
            .map_or(Self::Same, |event| Self::Become(vec![event]))
    }

    fn digest(event: &Event, digest: [u8; 32]) -> Self {
        let event = event.clone();
        Self::Become(vec![Event { digest, ..event }])
    }
}

struct Predictor<'p> {
    next: &'p NextBoot,
    chain: &'p Chain<'p>,
    /// Entries of the new `grub.cfg` that no event was found for yet.
    menu: Option<Vec<Entry>>,
    load_options: Option<String>,
    sections_done: bool,
}

impl Predictor<'_> {
    fn step(&mut self, link: &Link<'_>) -> Step {
        let event = link.event;
        match link.role {
            Role::Loader => self.loader(link),
            Role::Kernel => self.kernel(event),
            Role::QemuKernel => self.qemu_kernel(event),
            Role::Uki => match &self.next.uki {
                Some(uki) => Step::digest(event, uki.authenticode.0),
                None => Step::Same,
            },
            Role::UkiKernel => self.of_image(event, |contents| contents.kernel.0),
            Role::Sections => self.sections(),
            Role::Command => self.command(link),
            Role::GrubKernel => {
                let new = self.next.kernel.as_ref().map(|kernel| kernel.sha256.0);
                self.file(event, new)
            }
            Role::GrubInitrd => self.grub_initrd(event),
            Role::GrubConfig => self.config(event),
            Role::GrubFile => self.file(event, None),
            Role::LoadOptions => self.load_options(event),
            Role::Initrd => self.initrd(event),
            Role::Line => self.line(link),
            Role::Other => Step::Same,
        }
    }

    /// `text` with the new version, if there is one.
    fn renamed(&self, text: &str) -> String {
        let rename = self.next.rename.as_ref();
        rename.map_or_else(|| text.to_owned(), |rename| rename.apply(text))
    }

    fn is_renamed(&self, text: &str) -> bool {
        let rename = self.next.rename.as_ref();
        rename.is_some_and(|rename| rename.touches(text))
    }

    /// Whether the kernel gets another name, so that GRUB's configuration is written anew.
    fn kernel_moves(&self) -> bool {
        let kernel = self.chain.kernel.as_deref();
        kernel.is_some_and(|path| self.is_renamed(path))
    }

    fn check_loaders(&self) -> Result<(), PredictError> {
        let links = || {
            self.chain
                .links
                .iter()
                .filter(|link| link.role == Role::Loader)
        };
        for new in &self.next.loaders {
            if !links().any(|link| self.is_loader(link, &new.name)) {
                let found: Vec<String> = links().map(file_name).collect();
                return Err(PredictError::Loader {
                    name: new.name.clone(),
                    found: match found.is_empty() {
                        true => "none".to_owned(),
                        false => found.join(", "),
                    },
                });
            }
        }
        Ok(())
    }

    /// By the name of the file; the only boot loader may have another (`BOOTX64.EFI`).
    fn is_loader(&self, link: &Link<'_>, name: &str) -> bool {
        let links = self.chain.links.iter();
        let only = links.filter(|link| link.role == Role::Loader).count() == 1;
        let name = name.strip_suffix(".signed").unwrap_or(name);
        only || file_name(link).eq_ignore_ascii_case(name)
    }

    fn loader(&self, link: &Link<'_>) -> Step {
        let mut loaders = self.next.loaders.iter();
        match loaders.find(|new| self.is_loader(link, &new.name)) {
            Some(new) => Step::digest(link.event, new.authenticode.0),
            None => Step::Same,
        }
    }

    fn kernel(&self, event: &Event) -> Step {
        match &self.next.kernel {
            Some(kernel) => match kernel.authenticode {
                Some(digest) => Step::digest(event, digest.0),
                None => Step::Unknown(Why::Authenticode),
            },
            None if self.kernel_moves() => self.old_version(),
            None => Step::Same,
        }
    }

    /// QEMU writes size and place of the initramfs into the kernel.
    fn qemu_kernel(&self, event: &Event) -> Step {
        if self.next.kernel.is_none() && self.next.initrd.is_none() {
            return Step::Same;
        }
        let kernel = self.next.kernel.as_ref();
        match kernel.and_then(|kernel| kernel.from_qemu) {
            Some(digest) => Step::digest(event, digest.0),
            None => Step::Unknown(Why::Qemu),
        }
    }

    fn old_version(&self) -> Step {
        let rename = self.next.rename.as_ref();
        let from = rename.map_or_else(String::new, |rename| rename.from.clone());
        Step::Unknown(Why::OldVersion(from))
    }

    /// An event of what is inside the unified kernel image.
    fn of_image(&self, event: &Event, digest: impl Fn(&UkiContents) -> [u8; 32]) -> Step {
        match &self.next.uki {
            Some(NewUki {
                contents: Some(contents),
                ..
            }) => Step::digest(event, digest(contents)),
            Some(_) => Step::Unknown(Why::Contents),
            None => Step::Same,
        }
    }

    /// All sections of the new image in the place of the first event, none in the places of the others.
    fn sections(&mut self) -> Step {
        let Some(uki) = &self.next.uki else {
            return Step::Same;
        };
        let Some(contents) = &uki.contents else {
            return Step::Unknown(Why::Contents);
        };
        match std::mem::replace(&mut self.sections_done, true) {
            false => Step::Become(contents.events()),
            true => Step::Become(Vec::new()),
        }
    }

    fn command(&mut self, link: &Link<'_>) -> Step {
        let Claim::Text(text) = &link.claim else {
            return Step::Same;
        };
        let text = text.text.as_str();
        if defines_entry(text) {
            return self.menu_entry(link.event, text);
        }
        let new = match () {
            () if is_command_line(text) => self.with_parameters(text, 1),
            () if loads_kernel(text) => self.with_parameters(text, 2),
            () => self.renamed(text),
        };
        Step::text(link.event, &new)
    }

    /// A text in which the parameters follow after some words.
    fn with_parameters(&self, text: &str, words: usize) -> String {
        let Some(parameters) = &self.next.command_line else {
            return self.renamed(text);
        };
        let before: Vec<&str> = text.split(' ').take(words).collect();
        let before = self.renamed(&before.join(" "));
        format!("{before} {parameters}").trim_end().to_owned()
    }

    fn menu_entry(&mut self, event: &Event, old: &str) -> Step {
        let Some(menu) = &mut self.menu else {
            let changes = self.next.config.is_some() || self.is_renamed(old);
            return match changes {
                true => Step::Unknown(Why::Menu),
                false => Step::Same,
            };
        };
        let place = menu.iter().position(|entry| entry.replaces(old));
        let command = place.and_then(|at| menu.remove(at).command());
        match command {
            Some(command) => Step::text(event, &command),
            None => Step::Unknown(Why::MenuEntry),
        }
    }

    /// A file of PCR 9: its name, which nothing covers, is its data.
    fn file(&self, event: &Event, new: Option<[u8; 32]>) -> Step {
        let name = String::from_utf8_lossy(&event.data).into_owned();
        match new {
            Some(digest) => Step::Become(vec![Event {
                digest,
                data: self.renamed(&name).into_bytes(),
                ..event.clone()
            }]),
            None if self.is_renamed(&name) => self.old_version(),
            None => Step::Same,
        }
    }

    /// Of several initramfs files (microcode comes first) the new one is the one that names a version, or the last.
    fn grub_initrd(&self, event: &Event) -> Step {
        let new = self.next.initrd.map(|digest| digest.0);
        let path = event.text();
        let initrds = &self.chain.initrds;
        let versioned = |path: &str| {
            path.rsplit('/')
                .next()
                .is_some_and(|name| name.contains(|c: char| c.is_ascii_digit()))
        };
        let main = initrds.iter().rfind(|path| versioned(path));
        let main = main.or(initrds.last());
        match main {
            Some(main) if path.ends_with(main.as_str()) || main.ends_with(&path) => {
                self.file(event, new)
            }
            _ => self.file(event, None),
        }
    }

    fn config(&self, event: &Event) -> Step {
        match &self.next.config {
            Some(config) => self.file(event, Some(config.sha256.0)),
            None if self.kernel_moves() => Step::Unknown(Why::Config),
            None => Step::Same,
        }
    }

    /// The initramfs as the kernel's EFI stub measures it.
    fn initrd(&self, event: &Event) -> Step {
        if let Some(uki) = &self.next.uki {
            return match &uki.contents {
                Some(UkiContents {
                    initrd: Some(initrd),
                    ..
                }) => Step::digest(event, initrd.0),
                Some(contents) => Step::Unknown(Why::Archives(contents.stub)),
                None => Step::Unknown(Why::Contents),
            };
        }
        match self.next.initrd {
            Some(_) if self.chain.initrds.len() > 1 => Step::Unknown(Why::Several),
            Some(initrd) => Step::digest(event, initrd.0),
            None if self.kernel_moves() => self.old_version(),
            None => Step::Same,
        }
    }

    /// The command line that a boot loader measured: that of systemd-boot's entry is the kernel's own.
    fn line(&self, link: &Link<'_>) -> Step {
        let Claim::Text(text) = &link.claim else {
            return Step::Same;
        };
        let own = !self.chain.has(Role::Uki) || self.next.command_line.is_some();
        let new = match &self.next.command_line {
            Some(line) => line.clone(),
            None if own => self.renamed(&text.text),
            None => return Step::Same,
        };
        Step::text(link.event, &new)
    }
}

fn file_name(link: &Link<'_>) -> String {
    let Claim::Opaque(image) = &link.claim else {
        return String::new();
    };
    let path = image.hint();
    path.rsplit(['/', '\\'])
        .next()
        .unwrap_or_default()
        .to_owned()
}
