//! Repositories of apt: `Packages` says which .deb has which SHA-256, a `Release` which `Packages`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufReader, Read, Seek},
    path::{Path, PathBuf},
};

use super::{collect::Collector, deb, selection::Selection, signed_index, Package};
use crate::{
    files,
    unpack::{sha256, unpacked},
    Error,
};

/// Largest `Packages`, unpacked (bytes).
const MAX_PACKAGES: u64 = 512 * 1024 * 1024;
/// Largest `Packages` as it is stored, and largest .deb (bytes).
const MAX_DEB: u64 = 4 * 1024 * 1024 * 1024;
/// How deep below `dists` an index lies.
const MAX_DEPTH: usize = 6;
const NAMES: [&str; 4] = ["Packages", "Packages.xz", "Packages.gz", "Packages.zst"];

/// Digests of the indexes that releases list.
#[derive(Debug, Default)]
pub(crate) struct Releases(Vec<[u8; 32]>);

impl Releases {
    /// Reads `Release` or `InRelease` files, each verified when there is a keyring.
    pub(crate) fn read(paths: &[PathBuf], keyring: Option<&Path>) -> Result<Self, Error> {
        let mut digests = Vec::new();
        for path in paths {
            let text = signed_index::text(path, keyring)?;
            let before = digests.len();
            digests.extend(listed(&text));
            if digests.len() == before {
                let problem = "it lists no SHA256 of a Packages file";
                return Err(Error::Usage(format!("{}: {problem}", path.display())));
            }
        }
        Ok(Self(digests))
    }

    fn check(&self, path: &Path, digest: &[u8; 32]) -> Result<(), Error> {
        if self.0.is_empty() || self.0.contains(digest) {
            return Ok(());
        }
        Err(mismatch(
            path,
            "the release lists no Packages with this content",
        ))
    }
}

/// The lines of the `SHA256` field that speak of `Packages`.
fn listed(release: &str) -> impl Iterator<Item = [u8; 32]> + '_ {
    release
        .lines()
        .skip_while(|line| !line.starts_with("SHA256:"))
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (digest, _size, name) = (words.next()?, words.next()?, words.next()?);
            let file = name.rsplit('/').next()?;
            NAMES.contains(&file).then(|| digest_of(digest))?
        })
}

fn digest_of(hex_text: &str) -> Option<[u8; 32]> {
    hex::decode(hex_text).ok()?.try_into().ok()
}

fn mismatch(path: &Path, problem: &str) -> Error {
    Error::untrusted(
        crate::Party::OwnAppraisal,
        "repository-digest",
        format!("{}: {problem}", path.display()),
    )
}

/// A .deb as `Packages` has it.
struct Listed {
    package: Package,
    file: PathBuf,
    digest: [u8; 32],
}

/// Takes the files of a repository's packages; gives how many packages were there, and how many had no .deb.
pub(crate) fn collect(
    repository: &Path,
    releases: &Releases,
    selection: &mut Selection,
    into: &mut Collector<'_>,
) -> Result<(usize, usize), Error> {
    let (mut taken, mut missing) = (0, 0);
    for packages in indexes(repository)? {
        let root = root_of(repository, &packages);
        for listed in read_index(&packages, releases)? {
            if !selection.takes(&listed.package) {
                continue;
            }
            match find(&root, &listed) {
                Some(path) => {
                    one(&path, listed, into)?;
                    taken += 1;
                }
                None if selection.is_all() => missing += 1,
                None => {
                    return Err(Error::NotFound(format!(
                        "{}: there is no {} below {}",
                        listed.package,
                        listed.file.display(),
                        root.display()
                    )))
                }
            }
        }
    }
    Ok((taken, missing))
}

/// One index of each folder that has some.
fn indexes(repository: &Path) -> Result<Vec<PathBuf>, Error> {
    if repository.is_file() {
        return Ok(vec![repository.to_owned()]);
    }
    let mut found = Vec::new();
    let mut open = vec![(repository.to_owned(), 0), (repository.join("dists"), 0)];
    while let Some((folder, depth)) = open.pop() {
        found.extend(
            NAMES
                .iter()
                .map(|name| folder.join(name))
                .find(|path| path.is_file()),
        );
        let below = depth < MAX_DEPTH && folder != repository;
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        let folders = entries.flatten().map(|entry| entry.path());
        if below {
            open.extend(
                folders
                    .filter(|path| path.is_dir())
                    .map(|path| (path, depth + 1)),
            );
        }
    }
    found.sort();
    match found.is_empty() {
        false => Ok(found),
        true => Err(Error::NotFound(format!(
            "{} has no Packages, Packages.xz, Packages.gz or Packages.zst, nor have the folders in its dists/",
            repository.display()
        ))),
    }
}

/// Where the paths in an index begin: the folder of `dists`, else the index's own.
fn root_of(repository: &Path, packages: &Path) -> PathBuf {
    if repository.is_dir() {
        return repository.to_owned();
    }
    let dists = packages
        .ancestors()
        .find(|path| path.file_name().is_some_and(|name| name == "dists"));
    dists
        .or(Some(packages))
        .and_then(Path::parent)
        .map_or_else(PathBuf::new, Path::to_owned)
}

fn read_index(path: &Path, releases: &Releases) -> Result<Vec<Listed>, Error> {
    let stored = files::read(path, MAX_PACKAGES)?;
    releases.check(
        path,
        &sha256(&mut stored.as_slice()).map_err(files::file_error(path))?,
    )?;
    let unusable = |problem: String| Error::Usage(format!("{}: {problem}", path.display()));
    let mut text = String::new();
    let reader = unpacked(stored.as_slice()).map_err(|error| unusable(error.to_string()))?;
    reader
        .take(MAX_PACKAGES)
        .read_to_string(&mut text)
        .map_err(|error| unusable(error.to_string()))?;
    text.split("\n\n")
        .filter(|paragraph| !paragraph.trim().is_empty())
        .map(|paragraph| {
            entry(paragraph).ok_or_else(|| {
                let start: String = paragraph.chars().take(60).collect();
                unusable(format!(
                    "a package without Package, Version, Architecture, Filename or SHA256: {start:?}"
                ))
            })
        })
        .collect()
}

fn entry(paragraph: &str) -> Option<Listed> {
    let fields: BTreeMap<&str, &str> = paragraph
        .lines()
        .filter(|line| !line.starts_with([' ', '\t']))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim()))
        .collect();
    let get = |name: &str| fields.get(name).map(|value| (*value).to_owned());
    let file = PathBuf::from(get("Filename")?);
    let leaves = file.components().any(|part| {
        !matches!(
            part,
            std::path::Component::Normal(_) | std::path::Component::CurDir
        )
    });
    if leaves {
        return None;
    }
    Some(Listed {
        package: Package {
            name: get("Package")?,
            version: get("Version")?,
            architecture: get("Architecture")?,
        },
        file,
        digest: digest_of(&get("SHA256")?)?,
    })
}

/// Where the index says, or by its name: mirrors have pools, apt's own cache has one folder.
fn find(root: &Path, listed: &Listed) -> Option<PathBuf> {
    let package = &listed.package;
    let cached = format!(
        "{}_{}_{}.deb",
        package.name,
        package.version.replace(':', "%3a"),
        package.architecture
    );
    let named = listed.file.file_name()?;
    [root.join(&listed.file), root.join(named), root.join(cached)]
        .into_iter()
        .find(|path| path.is_file())
}

/// The digest first: nothing is read out of a .deb that the index does not know.
fn one(path: &Path, listed: Listed, into: &mut Collector<'_>) -> Result<(), Error> {
    let file = File::open(path).map_err(files::file_error(path))?;
    let mut file = BufReader::new(file);
    let digest = sha256(&mut file.by_ref().take(MAX_DEB)).map_err(files::file_error(path))?;
    if digest != listed.digest {
        return Err(mismatch(path, "its SHA-256 is not the one in Packages"));
    }
    file.rewind().map_err(files::file_error(path))?;
    let place = into.package(listed.package);
    deb::files(file, &mut |path, digest| into.file(place, path, digest))
        .map_err(|error| error.of(&path.display().to_string()))
}
