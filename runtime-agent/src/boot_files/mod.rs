//! `bootkeep-agent boot-files`: what the next boot will measure, so that the owner can sign it before the reboot.
//!
//! Hooks of kernel and initramfs packages run it as root. It writes digests to [`REPORT`]; the daemon, which has the
//! network, only reads that file and tells the verifier. Nobody is to believe a report: the owner compares it with the
//! packages of the update, or with a machine that has been updated.

mod digest;
mod places;
mod report;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use bootkeep_protocol::boot_files::{BootFile, BootFileRole, BootFiles, MAX_BOOT_FILES};

pub(crate) use report::report;

/// Where the report is.
pub const REPORT: &str = "/var/lib/bootkeep/boot-files.json";
/// Longest version of a kernel (bytes).
const MAX_VERSION: usize = 128;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum BootFilesError {
    /// The command line.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it was said to be.
    #[error("{path}: {problem}")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Nothing to report.
    #[error("no boot files were found in the usual places; name them with --file ROLE=PATH")]
    Nothing,
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> BootFilesError + '_ {
    move |source| BootFilesError::File {
        path: path.into(),
        source,
    }
}

/// What the command line says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    version: Option<String>,
    files: Vec<(BootFileRole, PathBuf)>,
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self, BootFilesError> {
        let usage = |what: String| BootFilesError::Usage(what);
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(&name) = arguments.next() {
            let mut value = || {
                let missing = || usage(format!("{name} needs a value"));
                arguments.next().copied().ok_or_else(missing)
            };
            match name {
                "--version" => options.version = Some(version(value()?)?),
                "--file" => options.files.push(file(value()?)?),
                other => return Err(usage(format!("unknown option {other:?}"))),
            }
        }
        if options.files.len() > MAX_BOOT_FILES {
            return Err(usage(format!("at most {MAX_BOOT_FILES} files")));
        }
        Ok(options)
    }
}

fn version(text: &str) -> Result<String, BootFilesError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"+-._~".contains(&b);
    if text.is_empty() || text.len() > MAX_VERSION || !text.bytes().all(good) {
        return Err(BootFilesError::Usage(format!(
            "{text:?} is not the version of a kernel (`uname -r`)"
        )));
    }
    Ok(text.to_owned())
}

fn file(text: &str) -> Result<(BootFileRole, PathBuf), BootFilesError> {
    let bad = |why: &str| BootFilesError::Usage(format!("{text:?}: {why}"));
    let (role, path) = text.split_once('=').ok_or_else(|| bad("write ROLE=PATH"))?;
    let role = match role {
        "loader" => BootFileRole::Loader,
        "kernel" => BootFileRole::Kernel,
        "initrd" => BootFileRole::Initrd,
        "uki" => BootFileRole::Uki,
        "config" => BootFileRole::Config,
        _ => return Err(bad("the role is loader, kernel, initrd, uki or config")),
    };
    if !path.starts_with('/') {
        return Err(bad("the path must be absolute"));
    }
    Ok((role, path.into()))
}

/// Reads the files and writes the report. `root` is `/`.
///
/// # Errors
/// [`BootFilesError`]; the report of before stays then.
pub fn run(arguments: &[&str], root: &Path) -> Result<(), BootFilesError> {
    let options = Options::parse(arguments)?;
    let files = match options.files.is_empty() {
        true => places::usual(root, options.version.as_deref())?,
        false => options.files,
    };
    if files.is_empty() {
        return Err(BootFilesError::Nothing);
    }
    let report = BootFiles {
        at_ms: now_ms(),
        version: options.version,
        files: digests(root, &files)?,
    };
    for file in &report.files {
        tracing::info!(path = file.path, sha256 = file.sha256, "boot file");
    }
    write(&under(root, Path::new(REPORT)), &report)
}

fn digests(
    root: &Path,
    files: &[(BootFileRole, PathBuf)],
) -> Result<Vec<BootFile>, BootFilesError> {
    files
        .iter()
        .map(|(role, path)| digest::file(root, *role, path))
        .collect()
}

/// An absolute path below another root.
fn under(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// All of it or nothing: the daemon reads at any moment.
fn write(path: &Path, report: &BootFiles) -> Result<(), BootFilesError> {
    let text = serde_json::to_vec_pretty(report).map_err(|error| at(path)(error.into()))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(at(folder))?;
    let new = path.with_extension("json.new");
    let written = fs::File::create(&new).and_then(|mut file| {
        io::Write::write_all(&mut file, &text)?;
        file.sync_all()
    });
    written.map_err(at(&new))?;
    fs::rename(&new, path).map_err(at(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_bad_ones_named() {
        let options = Options::parse(&[
            "--version",
            "6.1.0-30-amd64",
            "--file",
            "uki=/boot/efi/EFI/Linux/a=b.efi",
        ]);
        let options = options.unwrap();
        assert_eq!(options.version.as_deref(), Some("6.1.0-30-amd64"));
        let path = PathBuf::from("/boot/efi/EFI/Linux/a=b.efi");
        assert_eq!(options.files, [(BootFileRole::Uki, path)]);
        for bad in [
            &["--version"][..],
            &["--version", "../x"],
            &["--version", ""],
            &["--file", "kernel"],
            &["--file", "kernel=boot/vmlinuz"],
            &["--file", "root=/x"],
            &["--sesame", "x"],
        ] {
            assert!(
                matches!(Options::parse(bad), Err(BootFilesError::Usage(_))),
                "{bad:?}"
            );
        }
        let many = ["--file", "kernel=/k"].repeat(MAX_BOOT_FILES + 1);
        assert!(Options::parse(&many).is_err());
    }
}
