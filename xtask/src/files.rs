//! Files of the work tree.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::Result;

/// Files of the work tree, not those of builds and of git.
pub(crate) fn find_files(
    folder: &Path,
    target: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    found: &mut Vec<PathBuf>,
) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            let other = path == target || path.ends_with("target") || path.ends_with(".git");
            if !other {
                find_files(&path, target, wanted, found)?;
            }
        } else if wanted(&path) {
            found.push(path);
        }
    }
    Ok(())
}

/// A file that starts as shell scripts do.
pub(crate) fn is_script(path: &Path) -> bool {
    let mut start = [0; 11];
    let read = fs::File::open(path).and_then(|mut file| file.read(&mut start));
    let start = &start[..read.unwrap_or(0)];
    start.starts_with(b"#!/bin/sh") || start.starts_with(b"#!/bin/bash")
}
