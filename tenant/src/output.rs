//! What commands print.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::{cli::Form, Error};

/// A command's result: JSON by `Serialize`, and text for people.
pub trait Show: Serialize {
    /// The text for people, ending in a line feed unless empty.
    fn human(&self) -> String;
}

/// Prints a result on standard output.
///
/// # Errors
/// [`Error::Failed`] when standard output takes nothing.
pub fn print(form: Form, result: &dyn ErasedShow) -> Result<(), Error> {
    let text = match form {
        Form::Human => result.as_human(),
        Form::Json => result.as_json()? + "\n",
    };
    write_out(&text)
}

/// Prints a result beside the command's output proper, which has standard output unless it went to a file.
///
/// # Errors
/// As [`print`].
pub fn print_beside(form: Form, result: &dyn ErasedShow, to_file: bool) -> Result<(), Error> {
    if to_file {
        return print(form, result);
    }
    Ok(())
}

/// Writes to standard output; a reader that went away is no error.
///
/// # Errors
/// [`Error::Failed`].
pub fn write_out(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Failed(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints an error on standard error.
pub fn print_error(form: Form, error: &Error) {
    let text = match form {
        Form::Human => format!("bootkeep: {error}"),
        Form::Json => error_json(error),
    };
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

fn error_json(error: &Error) -> String {
    let refusal = match error {
        Error::Untrusted(refusal) => Some(refusal),
        _ => None,
    };
    serde_json::json!({
        "error": error.word(),
        "exit_code": error.exit_code(),
        "detail": error.to_string(),
        "refusal": refusal,
    })
    .to_string()
}

/// Whether standard error takes colours: a terminal, and nobody said NO_COLOR.
#[must_use]
pub fn colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !refused && !dumb && io::stderr().is_terminal()
}

/// [`Show`] behind a reference.
pub trait ErasedShow {
    /// The text for people.
    fn as_human(&self) -> String;
    /// One JSON document.
    ///
    /// # Errors
    /// [`Error::Failed`].
    fn as_json(&self) -> Result<String, Error>;
}

impl<T: Show> ErasedShow for T {
    fn as_human(&self) -> String {
        self.human()
    }
    fn as_json(&self) -> Result<String, Error> {
        serde_json::to_string_pretty(self).map_err(|error| Error::Failed(error.to_string()))
    }
}

/// A table for people: columns as wide as their widest cell, two spaces between.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let line: String = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let row = |cells: &[&str]| cells.iter().map(ToString::to_string).collect();
        let text = table(&[row(&["a", "bb"]), row(&["ccc", "d"])]);
        assert_eq!(text, "a    bb\nccc  d\n");
    }

    #[test]
    fn an_error_in_json_names_its_exit_code() {
        let text = error_json(&Error::NotFound("no node x".into()));
        assert!(text.contains("\"exit_code\":3"), "{text}");
    }
}
