//! The machine that is booted: a Debian cloud server with Bootkeep on it, its root in LUKS.

pub mod base;
pub mod disk;
pub mod initramfs;
pub mod kind;
pub mod product;
pub mod sizes;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

pub use kind::Kind;
pub use product::Product;

use crate::{
    cache::{Cache, Recipe},
    command,
    progress::Progress,
};

/// UUID of the LUKS volume.
pub const VOLUME_UUID: &str = "b007ee9e-0000-4000-8000-000000000001";
/// The LUKS key of test images. It opens nothing but them.
pub const LUKS_KEY: &[u8] = b"test images only: 0123456789abcdef0123456789abcdef";
/// Periodic jobs that would only disturb a machine that lives for a minute.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
];

/// A built image: a folder with all its parts.
#[derive(Clone, Debug)]
pub struct Image(PathBuf);

impl Image {
    /// Builds the image, or takes the one at hand when nothing it is made of has changed.
    ///
    /// # Errors
    /// When a step fails, with its output.
    pub fn build(cache: &Cache, product: &Product, progress: Progress) -> Result<Self> {
        Self::build_kind(cache, product, Kind::Usual, progress)
    }

    /// The same of another kind of machine.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn build_kind(
        cache: &Cache,
        product: &Product,
        kind: Kind,
        progress: Progress,
    ) -> Result<Self> {
        let base = base::build_kind(cache, kind, progress)?;
        let guest = product.tree.join("vm-tests/guest");
        let recipe = recipe(product, &guest)?
            .text(&kind.packages().join(","))
            .text(include_str!("kind.rs"));
        let image = cache.once(&kind.named("image"), &recipe, |path| {
            assemble(path, &base, &guest, product, kind, progress)
        })?;
        Ok(Self(image))
    }

    /// What depends on this image depends on this.
    ///
    /// # Errors
    /// When the image is not complete.
    pub fn recipe(&self) -> Result<Recipe> {
        Ok(Recipe::default().text(&fs::read_to_string(self.0.with_extension("key"))?))
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.0.join("vmlinuz")
    }

    /// The initramfs that `dracut -f` made in the root file system.
    #[must_use]
    pub fn initrd(&self) -> PathBuf {
        self.0.join("initrd.img")
    }

    /// The initramfs, unpacked.
    #[must_use]
    pub fn initramfs(&self) -> PathBuf {
        self.0.join("initramfs")
    }

    /// The root file system as a folder.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    /// The disk: the root file system in LUKS.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.0.join("root.img")
    }

    /// The volume's key, as a file.
    #[must_use]
    pub fn luks_key(&self) -> PathBuf {
        self.0.join("luks.key")
    }
}

fn recipe(product: &Product, guest: &Path) -> Result<Recipe> {
    Ok(product
        .recipe()?
        .path(guest)?
        .text(&base::recipe().key())
        .text(VOLUME_UUID)
        .text(include_str!("mod.rs"))
        .text(include_str!("disk.rs"))
        .text(include_str!("initramfs.rs")))
}

fn assemble(
    path: &Path,
    base: &Path,
    guest: &Path,
    product: &Product,
    kind: Kind,
    progress: Progress,
) -> Result<()> {
    let image = Image(path.into());
    let root = image.rootfs();
    progress.step("root file system with Bootkeep on it", || {
        unpack(base, &root)?;
        product::copy_tree(guest, &root)?;
        product.install(&root)?;
        kind.change(&root)?;
        settle(&root)
    })?;
    let made = format!("initramfs ({}, in the root file system)", kind.maker()[0]);
    progress.step(&made, || initramfs::build(&image, kind))?;
    progress.step("disk (ext4 in LUKS2)", || disk::build(&image))
}

fn unpack(base: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    command::output(
        Command::new("tar")
            .args(["--extract", "--numeric-owner", "--file"])
            .arg(base)
            .arg("--directory")
            .arg(root),
    )
    .map(drop)
}

fn settle(root: &Path) -> Result<()> {
    // Debian's dracut-network asks for a module that only ifupdown's users need.
    let _ = fs::remove_file(root.join("etc/dracut.conf.d/11-ifcfg.conf"));
    product::enable(root, "systemd-networkd.service")?;
    product::enable(root, "bootkeep-test-channel.service")?;
    let mut mask = Command::new("systemctl");
    mask.arg("--root")
        .arg(root)
        .args(["--quiet", "mask"])
        .args(MASKED);
    command::output(&mut mask)
        .context("masking timers")
        .map(drop)
}
