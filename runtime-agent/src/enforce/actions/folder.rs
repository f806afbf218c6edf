//! The drop-in folder.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::fcntl::OFlag;

use super::{trust, Action, What};

/// Files that are read; more are refused.
const MAX_FILES: usize = 64;
/// Largest file (bytes).
const MAX_FILE: u64 = 16 * 1024;

/// A file that is no action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its name.
    pub name: String,
    /// Why.
    pub problem: String,
}

/// Reads the folder: the actions in the order of their names, and what was refused. Without the folder there is nothing.
#[must_use]
pub fn load(folder: &Path) -> (Vec<(String, Action)>, Vec<Refused>) {
    let names = match names(folder) {
        Ok(names) => names,
        Err(problem) => {
            let name = folder.display().to_string();
            return (Vec::new(), vec![Refused { name, problem }]);
        }
    };
    let mut actions = Vec::new();
    let mut refused = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let read = match index < MAX_FILES {
            true => action(folder, &name),
            false => Err(format!("more than {MAX_FILES} files are not read")),
        };
        match read {
            Ok(action) => actions.push((name, action)),
            Err(problem) => refused.push(Refused { name, problem }),
        }
    }
    (actions, refused)
}

/// The names of the folder's files that end in `.yaml`, sorted; others are not for us.
fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| error.to_string())?,
    };
    trust::path(folder)?;
    let names: Result<Vec<_>, _> = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect();
    let mut names: Vec<String> = names
        .map_err(|error| error.to_string())?
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    Ok(names)
}

fn action(folder: &Path, name: &str) -> Result<Action, String> {
    let text = read(&folder.join(name))?;
    let action = Action::parse(&text).map_err(|error| error.to_string())?;
    if let What::Command(argv) = &action.what {
        trust::program(Path::new(&argv[0]))?;
    }
    Ok(action)
}

/// What is checked is the open file itself.
fn read(path: &Path) -> Result<String, String> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mut options = OpenOptions::new();
    let file: File = options
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(code) if code == nix::errno::Errno::ELOOP as i32 => "is a symbolic link".into(),
            _ => error.to_string(),
        })?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("is not a file".into());
    }
    trust::one(&found, false)?;
    let mut text = String::new();
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    match text.len() as u64 > MAX_FILE {
        true => Err(format!("is larger than {MAX_FILE} bytes")),
        false => Ok(text),
    }
}
