//! `bootkeep completions` and `bootkeep man`.

use std::{fs, path::Path};

use clap::CommandFactory;

use crate::{cli::Cli, output, Error};

/// Prints the completions of a shell.
///
/// # Errors
/// [`Error::Failed`] when standard output takes nothing.
pub fn completions(shell: clap_complete::Shell) -> Result<(), Error> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bootkeep", &mut text);
    output::write_out(&String::from_utf8_lossy(&text))
}

/// Writes a manual page for each command.
///
/// # Errors
/// [`Error::File`].
pub fn man(directory: &Path) -> Result<(), Error> {
    let in_directory = |source| Error::File {
        path: directory.into(),
        source,
    };
    fs::create_dir_all(directory).map_err(in_directory)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(in_directory)
}
