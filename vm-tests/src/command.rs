//! Running other programs. A failure names the command and shows its last words.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};

/// How much of a failed program's output is shown (bytes).
const LAST_WORDS: usize = 3_000;

/// Runs to the end and gives standard output.
///
/// # Errors
/// When it cannot start or does not succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let done = finish(command)?;
    if !done.status.success() {
        bail!(
            "{} failed ({}):\n{}",
            shown(command),
            done.status,
            last_words(&done.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs to the end whatever its exit status.
///
/// # Errors
/// When it cannot start.
pub fn finish(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", shown(command)))
}

/// Runs to the end, with everything that it prints in `log`.
///
/// # Errors
/// When it cannot start or does not succeed.
pub fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        let text = std::fs::read(log).unwrap_or_default();
        bail!(
            "{} failed ({status}); all of it is in {}:\n{}",
            shown(command),
            log.display(),
            last_words(&text)
        );
    }
    Ok(())
}

/// The command as one would type it.
#[must_use]
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    line.chars().take(400).collect()
}

fn last_words(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[text.len().saturating_sub(LAST_WORDS)..]).into_owned()
}

/// A program in the background; it is ended when this is dropped.
#[derive(Debug)]
pub struct Background {
    name: String,
    child: Child,
}

impl Background {
    /// Starts it, with everything that it prints appended to `log`.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        Self::spawn(name, command)
    }

    /// Starts it with the standard streams as the command has them.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {}", shown(command)))?;
        Ok(Self {
            name: name.into(),
            child,
        })
    }

    /// Its process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end (SIGTERM) and waits; after ten seconds it is killed.
    pub fn stop(&mut self) {
        if self.is_running() {
            let _ = Command::new("kill")
                .arg(self.child.id().to_string())
                .status();
            self.wait_until_gone(Duration::from_secs(10));
        }
        self.kill();
    }

    /// Waits for its end, at most so long; says whether it came.
    pub fn wait_until_gone(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.is_running() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        !self.is_running()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}
