//! `bootkeep seal`: user-data that crosses a cloud as ciphertext.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use bootkeep_protocol::NodeId;
use bootkeep_tpkd::{seal_document, SealedText, MAX_CONTAINER};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    cli, document_key,
    files::{self, PUBLIC},
    local,
    output::Show,
    Error, Home,
};

/// What was sealed.
#[derive(Debug, Serialize)]
pub struct Sealed {
    /// A node id or the name of a group.
    pub audience: String,
    /// Whether the audience is one node.
    pub for_node: bool,
    /// Names the key that opens it.
    pub key_id: String,
    /// Where it was written; absent for standard output.
    pub out: Option<PathBuf>,
}

impl Show for Sealed {
    fn human(&self) -> String {
        let Some(out) = &self.out else {
            return String::new();
        };
        let whom = if self.for_node { "node" } else { "group" };
        format!(
            "Sealed for {whom} {} with key {} in {}\n",
            self.audience,
            self.key_id,
            out.display()
        )
    }
}

/// Seals a user-data document.
///
/// # Errors
/// [`Error::Usage`] for an audience or a key file that is none; errors of files.
pub fn seal(options: &cli::Seal, home: &Home) -> Result<Sealed, Error> {
    let (audience, for_node) = audience(&options.audience, home)?;
    let plain = read_input(&options.user_data)?;
    let key = match (&options.key_file, &options.new_key) {
        (Some(path), _) => document_key::load(path)?,
        (None, Some(path)) => {
            let key = document_key::generate()?;
            document_key::save(&key, path)?;
            key
        }
        (None, None) => return Err(Error::Usage("name --key-file or --new-key".into())),
    };
    let sealed =
        seal_document(&key, &audience, &plain).map_err(|error| Error::Usage(error.to_string()))?;
    let text = SealedText::encode(&sealed);
    let message = if options.body { text.0 } else { text.message() };
    files::write_result(options.out.as_deref(), message.as_bytes(), PUBLIC)?;
    Ok(Sealed {
        audience,
        for_node,
        key_id: key.key_id,
        out: options.out.clone(),
    })
}

/// A node when the text is one's id, or names one that this home knows; else a group.
fn audience(text: &str, home: &Home) -> Result<(String, bool), Error> {
    if let Ok(node) = text.parse::<NodeId>() {
        return Ok((node.to_string(), true));
    }
    if let Some(node) = local::find(home, text)? {
        return Ok((node.to_string(), true));
    }
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(good) {
        return Err(Error::Usage(format!(
            "{text:?} is neither a node nor the name of a group (1 to 64 letters, digits, '-', '_', '.')"
        )));
    }
    Ok((text.to_owned(), false))
}

fn read_input(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    if path != Path::new("-") {
        return files::read(path, MAX_CONTAINER as u64);
    }
    let mut plain = Zeroizing::new(Vec::new());
    io::stdin()
        .take(MAX_CONTAINER as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|error| Error::Failed(format!("standard input: {error}")))?;
    Ok(plain)
}
