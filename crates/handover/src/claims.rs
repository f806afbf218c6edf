//! Claims on their way to the runtime agent: one file each in `claims/`.

use std::{fs, io};

use bootkeep_protocol::{
    limits::{clean_text, MAX_CLAIMS},
    link::Claim,
};
use sha2::{Digest, Sha256};

use crate::{private_folder, take_file, Handover};

const FOLDER: &str = "claims";

impl Handover {
    /// Leaves a claim for the runtime agent. The same claim twice is one claim; its text is made safe to show.
    ///
    /// # Errors
    /// When it cannot be written, or [`MAX_CLAIMS`] are already there.
    pub fn claim(&self, code: &str, detail: &str) -> io::Result<()> {
        let folder = self.directory().join(FOLDER);
        private_folder(&folder)?;
        if fs::read_dir(&folder)?.count() >= MAX_CLAIMS {
            return Err(io::Error::other(format!(
                "{MAX_CLAIMS} claims are already waiting in {}",
                folder.display()
            )));
        }
        let claim = Claim {
            code: clean_text(code),
            detail: clean_text(detail),
        };
        let digest = hex::encode(&Sha256::digest(format!("{code}\n{detail}"))[..8]);
        let part = format!("{FOLDER}/{digest}.part");
        // A whole file or none: the agent may be reading the folder just now.
        self.write(&part, &claim)?;
        fs::rename(
            self.directory().join(part),
            folder.join(format!("{digest}.json")),
        )
    }

    /// Takes the claims that are waiting, at most [`MAX_CLAIMS`]; what cannot be read is skipped.
    ///
    /// # Errors
    /// When the folder cannot be read; without the folder there are no claims.
    pub fn take_claims(&self) -> io::Result<Vec<Claim>> {
        let entries = match fs::read_dir(self.directory().join(FOLDER)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        Ok(entries
            .take(MAX_CLAIMS)
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
            .filter_map(|path| take_file::<Claim>(&path).ok()?)
            .collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn claims_are_taken_once_and_are_safe_to_show() {
        let parent = tempfile::tempdir().unwrap();
        let handover = Handover::at(&parent.path().join("bootkeep"));
        assert!(handover.take_claims().unwrap().is_empty());
        handover.prepare().unwrap();
        handover.claim("code", "a\x1b[31m\nb").unwrap();
        handover.claim("code", "a\x1b[31m\nb").unwrap();
        let claims = handover.take_claims().unwrap();
        assert_eq!(claims.len(), 1);
        assert_eq!(claims[0].detail, "a?[31m?b");
        assert!(handover.take_claims().unwrap().is_empty());
    }

    #[test]
    fn a_flood_and_a_squatted_folder_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let handover = Handover::at(&parent.path().join("bootkeep"));
        handover.prepare().unwrap();
        for index in 0..MAX_CLAIMS {
            handover.claim("code", &index.to_string()).unwrap();
        }
        assert!(handover.claim("code", "one more").is_err());
        assert_eq!(handover.take_claims().unwrap().len(), MAX_CLAIMS);
        fs::remove_dir_all(handover.directory().join(FOLDER)).unwrap();
        symlink("/tmp", handover.directory().join(FOLDER)).unwrap();
        assert!(handover.claim("code", "x").is_err());
    }
}
