//! What changes before the next boot: from files, or from what the node reported.

use std::path::Path;

use bootkeep_evidence::{
    eventlog::EventLog,
    pe::{PeImage, MAX_IMAGE},
};
use bootkeep_policy::{
    as_qemu_hands_over, kernel_version, sha256, version_in_name, Digest32, NewConfig, NewKernel,
    NewLoader, NewUki, NextBoot, Places, Rename,
};
use bootkeep_protocol::{
    boot_files::{BootFile, BootFileRole, BootFiles, MAX_BOOT_FILES},
    NodeId,
};

use zeroize::Zeroizing;

use crate::{cli::BootFilesGiven, files, Error};

/// Largest configuration of GRUB that is read (bytes).
const MAX_CONFIG: u64 = 4 * 1024 * 1024;

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    files::read(path, MAX_IMAGE as u64)
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Usage(format!("{}: {error}", path.display()))
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// From the files of the command line.
pub(super) fn given(files: &BootFilesGiven, last: &EventLog) -> Result<NextBoot, Error> {
    let initrd = files.initrd.as_deref().map(read).transpose()?;
    let kernel = match &files.kernel {
        Some(path) => Some(kernel(
            path,
            initrd.as_ref().map(|bytes| bytes.as_slice()),
            files.qemu_memory,
        )?),
        None => None,
    };
    let named = files.kernel.as_deref().map(name_of);
    let version = files.kernel_version.clone();
    let version = version.or_else(|| version_in_name(named.as_deref()?));
    Ok(NextBoot {
        rename: rename(last, version),
        loaders: loaders(files)?,
        kernel,
        initrd: initrd.map(|bytes| sha256(&bytes)),
        uki: files.uki.as_deref().map(uki).transpose()?,
        config: files.config.as_deref().map(config).transpose()?,
        command_line: files.cmdline.clone(),
    })
}

/// From the version of the last boot to this one, when both are known.
fn rename(last: &EventLog, version: Option<String>) -> Option<Rename> {
    let (from, to) = (kernel_version(last)?, version?);
    (from != to).then_some(Rename { from, to })
}

fn kernel(path: &Path, initrd: Option<&[u8]>, memory: Option<u32>) -> Result<NewKernel, Error> {
    let bytes = read(path)?;
    let mut kernel = NewKernel::read(&bytes);
    if let (Some(memory), Some(initrd)) = (memory, initrd) {
        let loaded = as_qemu_hands_over(&bytes, initrd.len(), memory);
        let loaded = loaded.map_err(|error| unusable(path, error))?;
        let image = PeImage::parse(&loaded).map_err(|error| unusable(path, error))?;
        kernel.from_qemu = Some(image.authenticode().into());
    }
    Ok(kernel)
}

fn loaders(files: &BootFilesGiven) -> Result<Vec<NewLoader>, Error> {
    let all = files.loader.iter();
    all.map(|path| {
        NewLoader::read(&name_of(path), &read(path)?).map_err(|error| unusable(path, error))
    })
    .collect()
}

fn uki(path: &Path) -> Result<NewUki, Error> {
    NewUki::read(&read(path)?).map_err(|error| unusable(path, error))
}

fn config(path: &Path) -> Result<NewConfig, Error> {
    Ok(NewConfig::read(&files::read(path, MAX_CONFIG)?))
}

/// From the digests that a node reported.
pub(super) fn reported(
    node: &NodeId,
    report: Option<&BootFiles>,
    last: &EventLog,
) -> Result<NextBoot, Error> {
    let node = node.short();
    let report = report.ok_or_else(|| {
        Error::NotFound(format!(
            "node {node} has reported no boot files: its hook has not run yet (`bootkeep-agent boot-files` on the node)"
        ))
    })?;
    let places = Places::of(last).map_err(|error| Error::Failed(error.to_string()))?;
    let report = Report::of(report)?;
    let kernel = report.one(BootFileRole::Kernel, places.kernel)?;
    let initrd = report.one(BootFileRole::Initrd, places.initrd)?;
    let uki = report.one(BootFileRole::Uki, places.uki)?;
    let config = report.config().filter(|_| places.config);
    Ok(NextBoot {
        rename: rename(last, report.version.map(str::to_owned)),
        loaders: report.loaders(&places)?,
        kernel: kernel.map(kernel_of).transpose()?,
        initrd: initrd.map(|file| digest(&file.sha256)).transpose()?,
        uki: uki.map(uki_of).transpose()?,
        config: config.map(config_of).transpose()?,
        command_line: None,
    })
}

fn digest(text: &str) -> Result<Digest32, Error> {
    let bad = || {
        Error::Failed(format!(
            "the node reported {text:?}, which is no SHA-256 digest"
        ))
    };
    let mut bytes = [0; 32];
    let lower = text.bytes().all(|byte| !byte.is_ascii_uppercase());
    hex::decode_to_slice(text, &mut bytes).map_err(|_| bad())?;
    lower.then_some(bytes.into()).ok_or_else(bad)
}

fn kernel_of(file: &BootFile) -> Result<NewKernel, Error> {
    Ok(NewKernel {
        sha256: digest(&file.sha256)?,
        authenticode: file.authenticode.as_deref().map(digest).transpose()?,
        from_qemu: None,
    })
}

fn authenticode(file: &BootFile) -> Result<Digest32, Error> {
    let text = file.authenticode.as_deref().ok_or_else(|| {
        Error::Failed(format!(
            "the node reported no Authenticode digest of {:?}",
            file.path
        ))
    })?;
    digest(text)
}

fn uki_of(file: &BootFile) -> Result<NewUki, Error> {
    Ok(NewUki {
        authenticode: authenticode(file)?,
        contents: None,
    })
}

fn config_of(file: &BootFile) -> Result<NewConfig, Error> {
    Ok(NewConfig {
        sha256: digest(&file.sha256)?,
        text: None,
    })
}

/// What a node said.
struct Report<'r> {
    version: Option<&'r str>,
    files: &'r [BootFile],
}

impl<'r> Report<'r> {
    fn of(report: &'r BootFiles) -> Result<Self, Error> {
        if report.files.len() > MAX_BOOT_FILES {
            let what = format!("the node reported more than {MAX_BOOT_FILES} files");
            return Err(Error::Failed(what));
        }
        Ok(Self {
            version: report.version.as_deref(),
            files: &report.files,
        })
    }

    fn all(&self, role: BootFileRole) -> impl Iterator<Item = &'r BootFile> {
        self.files.iter().filter(move |file| file.role == role)
    }

    /// The file of this role that the next boot uses: the one that names the version, or the only one.
    fn one(&self, role: BootFileRole, wanted: bool) -> Result<Option<&'r BootFile>, Error> {
        if !wanted {
            return Ok(None);
        }
        let names = |file: &&BootFile| {
            self.version
                .is_some_and(|version| named(file).contains(version))
        };
        let mut of_version = self.all(role).filter(names);
        if let (Some(file), None) = (of_version.next(), of_version.next()) {
            return Ok(Some(file));
        }
        let mut all = self.all(role);
        match (all.next(), all.next()) {
            (file, None) => Ok(file),
            _ => Err(Error::Failed(format!(
                "the node reported several files as {}: which one the next boot uses is not known; name it",
                serde_json::to_string(&role).unwrap_or_default()
            ))),
        }
    }

    /// Not the one on the ESP, which only leads to the other.
    fn config(&self) -> Option<&'r BootFile> {
        let configs = self
            .all(BootFileRole::Config)
            .filter(|file| file.path.ends_with("/grub.cfg"));
        configs
            .filter(|file| !file.path.to_ascii_uppercase().contains("/EFI/"))
            .last()
    }

    /// Those that started in the last boot.
    fn loaders(&self, places: &Places) -> Result<Vec<NewLoader>, Error> {
        let started = |file: &&BootFile| {
            let mut names = places.loaders.iter();
            names.any(|name| name.eq_ignore_ascii_case(named(file)))
        };
        let mut all: Vec<NewLoader> = Vec::new();
        for file in self.all(BootFileRole::Loader).filter(started) {
            let loader = NewLoader {
                name: named(file).to_owned(),
                authenticode: authenticode(file)?,
            };
            let twice = all
                .iter()
                .any(|other| other.name == loader.name && *other != loader);
            if twice {
                let what = format!(
                    "the node reported two boot loaders called {:?}; name the right one",
                    loader.name
                );
                return Err(Error::Failed(what));
            }
            all.push(loader);
        }
        Ok(all)
    }
}

fn named(file: &BootFile) -> &str {
    file.path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A boot of 6.1.0-50-amd64 through shim and GRUB.
    const GRUB: &[u8] = include_bytes!("../../../../../fuzz/corpus/event_log/made-shim-grub.bin");
    /// A unified kernel image that the firmware starts.
    const UKI: &[u8] = include_bytes!("../../../../../fuzz/corpus/event_log/made-uki.bin");

    fn file(role: BootFileRole, path: &str, byte: &str) -> BootFile {
        BootFile {
            role,
            path: path.into(),
            size: 1,
            sha256: byte.repeat(32),
            authenticode: Some(byte.repeat(32)),
        }
    }

    fn report() -> BootFiles {
        use BootFileRole::{Config, Initrd, Kernel, Loader, Uki};
        BootFiles {
            at_ms: 1,
            version: Some("6.1.0-56-amd64".into()),
            files: vec![
                file(Kernel, "/boot/vmlinuz-6.1.0-50-amd64", "10"),
                file(Kernel, "/boot/vmlinuz-6.1.0-56-amd64", "11"),
                file(Initrd, "/boot/initrd.img-6.1.0-50-amd64", "20"),
                file(Initrd, "/boot/initrd.img-6.1.0-56-amd64", "21"),
                file(Config, "/boot/grub/grub.cfg", "31"),
                file(Config, "/boot/efi/EFI/debian/grub.cfg", "30"),
                file(Loader, "/boot/efi/EFI/debian/shimx64.efi", "41"),
                file(Loader, "/boot/efi/EFI/debian/mmx64.efi", "42"),
                file(Uki, "/boot/efi/EFI/Linux/debian.efi", "51"),
            ],
        }
    }

    fn next(report: &BootFiles, log: &[u8]) -> Result<NextBoot, Error> {
        let node = NodeId::of_ek_public(b"ek");
        reported(&node, Some(report), &EventLog::parse(log).unwrap())
    }

    fn byte(byte: u8) -> Digest32 {
        [byte; 32].into()
    }

    #[test]
    fn the_files_that_the_last_boot_had_are_taken_in_the_new_version() {
        let found = next(&report(), GRUB).unwrap();
        let kernel = found.kernel.unwrap();
        assert_eq!(
            (kernel.sha256, kernel.authenticode),
            (byte(0x11), Some(byte(0x11)))
        );
        assert_eq!(found.initrd, Some(byte(0x21)));
        assert_eq!(found.config.unwrap().sha256, byte(0x31));
        assert_eq!(found.loaders.len(), 1);
        assert_eq!(found.loaders[0].authenticode, byte(0x41));
        assert_eq!((found.uki, found.command_line), (None, None));
        assert_eq!(found.rename.unwrap().to, "6.1.0-56-amd64");

        let found = next(&report(), UKI).unwrap();
        assert_eq!(found.uki.unwrap().authenticode, byte(0x51));
        assert_eq!(
            (found.kernel, found.initrd, found.config),
            (None, None, None)
        );
    }

    #[test]
    fn what_a_report_leaves_open_is_said() {
        type Change = fn(&mut BootFiles);
        let cases: [(Change, &str); 5] = [
            (|report| report.version = None, "several files"),
            (
                |report| report.files[1].sha256 = "zz".repeat(32),
                "no SHA-256",
            ),
            (
                |report| report.files[1].sha256 = "AA".repeat(32),
                "no SHA-256",
            ),
            (
                |report| report.files[6].authenticode = None,
                "no Authenticode",
            ),
            (
                |report| report.files = vec![report.files[0].clone(); MAX_BOOT_FILES + 1],
                "more than",
            ),
        ];
        for (change, said) in cases {
            let mut report = report();
            change(&mut report);
            let error = next(&report, GRUB).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let node = NodeId::of_ek_public(b"ek");
        let none = reported(&node, None, &EventLog::parse(GRUB).unwrap());
        assert_eq!(none.unwrap_err().exit_code(), 3);
    }
}
