//! Repositories of RPM packages: `repomd.xml` says which `primary.xml` has which SHA-256, that says it of packages.

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    path::{Component, Path, PathBuf},
};

use quick_xml::{
    events::{BytesStart, Event},
    Reader,
};

use super::{collect::Collector, rpm, selection::Selection, signed_index, Package};
use crate::{
    files,
    unpack::{sha256, unpacked},
    Error,
};

/// Largest `primary.xml`, unpacked (bytes).
const MAX_PRIMARY: u64 = 2 * 1024 * 1024 * 1024;
/// Largest package (bytes).
const MAX_RPM: u64 = 4 * 1024 * 1024 * 1024;

fn unusable(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Usage(format!("{}: {error}", path.display()))
}

fn mismatch(path: &Path, problem: &str) -> Error {
    Error::untrusted(
        crate::Party::OwnAppraisal,
        "repository-digest",
        format!("{}: {problem}", path.display()),
    )
}

/// A file with the digest it must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    location: String,
    digest: String,
}

impl Place {
    fn in_folder(&self, folder: &Path) -> Option<PathBuf> {
        let path = Path::new(&self.location);
        let stays = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        (stays && !self.location.is_empty()).then(|| folder.join(path))
    }

    /// Opens the file, once its content is the one listed.
    fn open(&self, folder: &Path, most: u64) -> Result<(PathBuf, BufReader<File>), Error> {
        let path = self.in_folder(folder).ok_or_else(|| {
            unusable(
                folder,
                format!("{:?} is not a path in a repository", self.location),
            )
        })?;
        let file = File::open(&path).map_err(files::file_error(&path))?;
        let mut file = BufReader::new(file);
        let digest = sha256(&mut file.by_ref().take(most)).map_err(files::file_error(&path))?;
        if hex::encode(digest) != self.digest.to_ascii_lowercase() {
            return Err(mismatch(&path, "its SHA-256 is not the one listed"));
        }
        file.rewind().map_err(files::file_error(&path))?;
        Ok((path, file))
    }
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = tag.try_get_attribute(name).ok()??;
    attribute
        .unescape_value()
        .ok()
        .map(|value| value.into_owned())
}

/// One `<data>` or `<package>`, as far as it matters here.
#[derive(Clone, Debug, Default)]
struct Block {
    kind: String,
    place: Place,
    name: String,
    architecture: String,
    version: String,
}

impl Block {
    fn open(&mut self, tag: &BytesStart<'_>) {
        match tag.local_name().as_ref() {
            b"location" => self.place.location = attribute(tag, "href").unwrap_or_default(),
            b"version" => self.version = version(tag),
            _ => {}
        }
    }

    fn text(&mut self, inside: &[u8], is_sha256: bool, text: &str) {
        let field = match inside {
            b"checksum" if is_sha256 => &mut self.place.digest,
            b"name" => &mut self.name,
            b"arch" => &mut self.architecture,
            _ => return,
        };
        field.push_str(text.trim());
    }
}

/// As `rpm -q --qf '%{VERSION}-%{RELEASE}'` writes it, an epoch other than 0 before it.
fn version(tag: &BytesStart<'_>) -> String {
    let part = |name| attribute(tag, name).unwrap_or_default();
    let version = format!("{}-{}", part("ver"), part("rel"));
    match part("epoch").as_str() {
        "" | "0" => version,
        epoch => format!("{epoch}:{version}"),
    }
}

/// Calls `each` with every block of this name. Entities are not expanded, depth does not matter.
fn blocks(
    xml: impl std::io::BufRead,
    outer: &[u8],
    each: &mut dyn FnMut(Block) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |error: quick_xml::Error| Error::Usage(error.to_string());
    let mut reader = Reader::from_reader(xml);
    let (mut buffer, mut inside, mut is_sha256) = (Vec::new(), Vec::new(), false);
    let mut block: Option<Block> = None;
    loop {
        match reader.read_event_into(&mut buffer).map_err(failed)? {
            Event::Start(tag) => {
                inside = tag.local_name().as_ref().to_vec();
                is_sha256 = attribute(&tag, "type").as_deref() == Some("sha256");
                if inside == outer {
                    block = Some(Block {
                        kind: attribute(&tag, "type").unwrap_or_default(),
                        ..Block::default()
                    });
                } else if let Some(block) = &mut block {
                    block.open(&tag);
                }
            }
            Event::Empty(tag) => {
                if let Some(block) = &mut block {
                    block.open(&tag);
                }
            }
            Event::Text(text) => {
                if let (Some(block), Ok(text)) = (&mut block, text.decode()) {
                    block.text(&inside, is_sha256, &text);
                }
            }
            Event::End(tag) => {
                inside.clear();
                if tag.local_name().as_ref() == outer {
                    if let Some(done) = block.take() {
                        each(done)?;
                    }
                }
            }
            Event::Eof => return Ok(()),
            _ => {}
        }
        buffer.clear();
    }
}

/// Where `primary.xml` is, by a `repomd.xml` that is verified when there is a keyring.
fn primary(repository: &Path, keyring: Option<&Path>) -> Result<Place, Error> {
    let path = repository.join("repodata/repomd.xml");
    let text = signed_index::text(&path, keyring)?;
    let mut found = None;
    blocks(text.as_bytes(), b"data", &mut |block| {
        if block.kind == "primary" {
            found = Some(block.place);
        }
        Ok(())
    })
    .map_err(|error| unusable(&path, error))?;
    found.ok_or_else(|| unusable(&path, "it lists no primary.xml"))
}

/// Takes the files of a repository's packages; gives how many packages were there, and how many had no .rpm.
pub(crate) fn collect(
    repository: &Path,
    keyring: Option<&Path>,
    selection: &mut Selection,
    into: &mut Collector<'_>,
) -> Result<(usize, usize), Error> {
    let (path, file) = primary(repository, keyring)?.open(repository, MAX_PRIMARY)?;
    let xml = unpacked(file).map_err(|error| unusable(&path, error))?;
    let (mut taken, mut missing) = (0, 0);
    blocks(
        BufReader::new(xml.take(MAX_PRIMARY)),
        b"package",
        &mut |block| {
            let package = Package {
                name: block.name,
                version: block.version,
                architecture: block.architecture,
            };
            if package.architecture == "src" || !selection.takes(&package) {
                return Ok(());
            }
            let is_there = block
                .place
                .in_folder(repository)
                .is_some_and(|path| path.is_file());
            if !is_there && selection.is_all() {
                missing += 1;
                return Ok(());
            }
            let (path, mut file) = block.place.open(repository, MAX_RPM)?;
            let place = into.package(package);
            taken += 1;
            rpm::files(&mut file, &mut |path, digest| {
                into.file(place, path, digest)
            })
            .map_err(|error| error.of(&path.display().to_string()))
        },
    )?;
    Ok((taken, missing))
}
