//! Things that are built once and kept, each under a key made of its whole recipe.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// A folder of built things, `target/vm` of the work tree.
#[derive(Clone, Debug)]
pub struct Cache(PathBuf);

impl Cache {
    /// The cache at this folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn at(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self(directory.canonicalize()?))
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// A folder that is kept whatever the recipe, such as downloaded packages.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// The folder `name` built by this recipe: the one at hand, or a new one that takes its place.
    ///
    /// # Errors
    /// Those of `build`; what it left is then taken away at the next call.
    pub fn once(
        &self,
        name: &str,
        recipe: &Recipe,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let (path, stamp) = (self.0.join(name), self.0.join(format!("{name}.key")));
        let key = recipe.key();
        if path.is_dir() && fs::read_to_string(&stamp).is_ok_and(|known| known == key) {
            return Ok(path);
        }
        let _ = fs::remove_file(&stamp);
        remove(&path)?;
        fs::create_dir_all(&path)?;
        build(&path).with_context(|| format!("building {name}"))?;
        fs::write(&stamp, key)?;
        Ok(path)
    }
}

/// Removes a folder with all that is in it, if it is there.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// What a built thing depends on.
#[derive(Clone, Debug, Default)]
pub struct Recipe(Sha256);

impl Recipe {
    /// Adds a text.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.add(text.as_bytes());
        self
    }

    /// Adds a file's name and content, or a folder's with all that is in it.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn path(mut self, path: &Path) -> Result<Self> {
        self.tree(path, Path::new(""))?;
        Ok(self)
    }

    fn tree(&mut self, path: &Path, name: &Path) -> Result<()> {
        self.add(name.as_os_str().as_encoded_bytes());
        if !path.is_dir() {
            let bytes =
                fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            self.add(&bytes);
            return Ok(());
        }
        let mut entries = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort();
        for entry in entries {
            self.tree(&path.join(&entry), &name.join(&entry))?;
        }
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    /// The key, in hex.
    #[must_use]
    pub fn key(&self) -> String {
        hex::encode(self.0.clone().finalize())
    }
}

/// Removes the disks of machines below a folder.
///
/// # Errors
/// When one cannot be removed.
pub fn remove_disks(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_disks(&path)?;
        } else if path.extension().is_some_and(|ending| ending == "img") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cache() -> Cache {
        let path = std::env::temp_dir().join(format!("bootkeep-cache-{}", std::process::id()));
        remove(&path).unwrap();
        Cache::at(&path).unwrap()
    }

    #[test]
    fn a_thing_is_built_again_only_when_its_recipe_changed_or_it_failed() {
        let cache = cache();
        let build = |recipe: &str| {
            let mut built = false;
            let recipe = Recipe::default().text(recipe);
            cache
                .once("thing", &recipe, |path| {
                    built = true;
                    Ok(fs::write(path.join("x"), "y")?)
                })
                .unwrap();
            built
        };
        assert!(build("a"));
        assert!(!build("a"));
        assert!(build("b"));
        let failed = cache.once("thing", &Recipe::default().text("c"), |_| {
            anyhow::bail!("no")
        });
        assert!(failed.is_err());
        assert!(
            build("b"),
            "a failed build must not leave the old thing's key"
        );
        remove(cache.root()).unwrap();
    }

    #[test]
    fn texts_do_not_run_into_one_another() {
        let apart = Recipe::default().text("ab").text("c");
        let other = Recipe::default().text("a").text("bc");
        assert_ne!(apart.key(), other.key());
    }

    #[test]
    fn of_a_run_only_disks_are_removed() {
        let run = std::env::temp_dir().join(format!("bootkeep-disks-{}", std::process::id()));
        let machine = run.join("machine-1");
        fs::create_dir_all(&machine).unwrap();
        let (disk, log) = (machine.join("disk.img"), machine.join("serial.log"));
        fs::write(&disk, "").unwrap();
        fs::write(&log, "").unwrap();
        remove_disks(&run).unwrap();
        assert!(!disk.exists() && log.exists());
        remove(&run).unwrap();
    }
}
