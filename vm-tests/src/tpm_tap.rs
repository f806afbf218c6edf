//! What a software TPM is asked, while it is asked: a power cut at a given command is one at a given state of the TPM.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};

use crate::swtpm::SoftTpm;

/// How often the log is looked at.
const BEAT: Duration = Duration::from_millis(1);
/// Bytes of a command's header: tag, size, code (TCG TPM 2.0 Part 1, 18.1).
const HEADER: usize = 10;

/// A command, and what it is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its code (TCG TPM 2.0 Part 2, 6.5.2).
    pub code: u32,
    /// Its first handle; 0 where it has none.
    pub handle: u32,
}

/// TPM2_NV_Write; its first handle is that of the authorization.
pub const NV_WRITE: u32 = 0x0000_0137;
/// TPM2_NV_Read; likewise.
pub const NV_READ: u32 = 0x0000_014e;
/// TPM2_PCR_Extend.
pub const PCR_EXTEND: u32 = 0x0000_0182;
/// TPM2_Quote.
pub const QUOTE: u32 = 0x0000_0158;

/// Listens to one TPM from its last start on.
#[derive(Debug)]
pub struct TpmTap {
    log: BufReader<File>,
    line: String,
    command: Option<Vec<u8>>,
}

impl TpmTap {
    /// Listens to this TPM, which was started.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn on(tpm: &SoftTpm) -> Result<Self> {
        let path = tpm.commands();
        let log = File::open(&path).with_context(|| format!("no log {}", path.display()))?;
        Ok(Self {
            log: BufReader::new(log),
            line: String::new(),
            command: None,
        })
    }

    /// The next command that was answered, once it is.
    ///
    /// # Errors
    /// When none is in this time.
    pub fn next(&mut self, limit: Duration) -> Result<Asked> {
        let end = Instant::now() + limit;
        loop {
            if let Some(asked) = self.look()? {
                return Ok(asked);
            }
            ensure!(Instant::now() < end, "the TPM was asked nothing more");
        }
    }

    /// Waits for the answer to a command like this.
    ///
    /// # Errors
    /// When there is none in this time.
    pub fn wait(&mut self, wanted: impl Fn(Asked) -> bool, limit: Duration) -> Result<Asked> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let asked = self.next(left).context("no such command")?;
            if wanted(asked) {
                return Ok(asked);
            }
        }
    }

    /// One line of the log; with the first of an answer, the command that it answers.
    fn look(&mut self) -> Result<Option<Asked>> {
        if self.log.read_line(&mut self.line)? == 0 {
            thread::sleep(BEAT);
            return Ok(None);
        }
        if !self.line.ends_with('\n') {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.line);
        match line.trim() {
            read if read.starts_with("SWTPM_IO_Read") => self.command = Some(Vec::new()),
            write if write.starts_with("SWTPM_IO_Write") => {
                return Ok(self.command.take().as_deref().and_then(asked));
            }
            hex => {
                if let Some(command) = &mut self.command {
                    command.extend(bytes(hex));
                }
            }
        }
        Ok(None)
    }
}

fn bytes(line: &str) -> impl Iterator<Item = u8> + '_ {
    line.split_whitespace()
        .map_while(|word| u8::from_str_radix(word, 16).ok())
}

fn asked(command: &[u8]) -> Option<Asked> {
    let word = |at: usize| {
        let bytes = command.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    Some(Asked {
        code: word(6)?,
        handle: word(HEADER).unwrap_or(0),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    const LOG: &str =
        " SWTPM_IO_Read: length 65\n 80 02 00 00 00 41 00 00 01 82 00 00 00 0F 00 00 \n 00 09 \n\
                       SWTPM_IO_Write: length 19\n 80 02 00 00 00 13 00 00 00 00 \n";

    #[test]
    fn a_command_is_told_once_it_is_answered() {
        let path = std::env::temp_dir().join(format!("bootkeep-tap-{}", std::process::id()));
        let (asked, answer) = LOG.split_at(LOG.find("SWTPM_IO_Write").unwrap() + 5);
        fs::write(&path, asked).unwrap();
        let mut tap = TpmTap {
            log: BufReader::new(File::open(&path).unwrap()),
            line: String::new(),
            command: None,
        };
        assert!(tap.next(Duration::from_millis(20)).is_err());
        let mut log = File::options().append(true).open(&path).unwrap();
        log.write_all(answer.as_bytes()).unwrap();
        fs::remove_file(&path).unwrap();
        let extend = Asked {
            code: PCR_EXTEND,
            handle: 15,
        };
        let any = |_| true;
        assert_eq!(tap.wait(any, Duration::from_secs(5)).unwrap(), extend);
    }
}
