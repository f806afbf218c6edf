//! cpio archives of the kernel's form (newc; Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{collections::HashMap, io::Read};

use super::{bad, member_path, sha256, Found, Unpack};

/// Length of a member's head (bytes).
const HEAD: usize = 110;
/// Longest name (bytes).
const MAX_NAME: u64 = 4096;
/// Most members of one archive.
const MAX_MEMBERS: usize = 1_000_000;
/// Names that one file's links may have before its content comes.
const MAX_LINKS: usize = 65_536;
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const END: &[u8] = b"TRAILER!!!";

/// A member's head.
struct Head {
    inode: (u32, u32, u32),
    mode: u32,
    links: u32,
    size: u64,
    name: u64,
}

fn field(head: &[u8; HEAD], number: usize) -> Result<u32, Unpack> {
    let start = 6 + 8 * number;
    let text = head.get(start..start + 8).unwrap_or_default();
    std::str::from_utf8(text)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|text| u32::from_str_radix(text, 16).ok())
        .ok_or_else(|| bad("cpio: a number is not one").into())
}

impl Head {
    fn read(reader: &mut dyn Read) -> Result<Self, Unpack> {
        let mut head = [0; HEAD];
        reader.read_exact(&mut head)?;
        if !(head.starts_with(b"070701") || head.starts_with(b"070702")) {
            return Err(bad("neither a cpio archive (newc) nor packed in a way known here").into());
        }
        let head = Self {
            inode: (field(&head, 0)?, field(&head, 7)?, field(&head, 8)?),
            mode: field(&head, 1)?,
            links: field(&head, 4)?,
            size: field(&head, 6)?.into(),
            name: field(&head, 11)?.into(),
        };
        if !(1..=MAX_NAME).contains(&head.name) {
            return Err(bad("cpio: a name is empty or too long").into());
        }
        Ok(head)
    }

    fn is_file(&self) -> bool {
        self.mode & TYPE == REGULAR
    }
}

fn skip(reader: &mut dyn Read, length: u64) -> Result<(), Unpack> {
    let mut rest = reader.take(length);
    if std::io::copy(&mut rest, &mut std::io::sink())? != length {
        return Err(bad("cpio: it ends inside a member").into());
    }
    Ok(())
}

/// To the next multiple of four.
fn padding(length: u64) -> u64 {
    length.next_multiple_of(4) - length
}

fn name(reader: &mut dyn Read, head: &Head) -> Result<Vec<u8>, Unpack> {
    let mut name = Vec::new();
    reader.take(head.name).read_to_end(&mut name)?;
    if name.len() as u64 != head.name || name.pop() != Some(0) {
        return Err(bad("cpio: a name does not end").into());
    }
    skip(reader, padding(HEAD as u64 + head.name))?;
    Ok(name)
}

/// Files with several names: the content comes with one of them.
#[derive(Default)]
struct Links {
    waiting: HashMap<(u32, u32, u32), Vec<String>>,
    known: HashMap<(u32, u32, u32), [u8; 32]>,
    count: usize,
}

impl Links {
    /// The names that now have this content.
    fn content(&mut self, head: &Head, path: Option<String>, digest: [u8; 32]) -> Vec<String> {
        let mut names = Vec::new();
        if head.links > 1 {
            self.known.insert(head.inode, digest);
            names = self.waiting.remove(&head.inode).unwrap_or_default();
        }
        names.extend(path);
        names
    }

    /// A name without content: of a link, or of an empty file.
    fn name(&mut self, head: &Head, path: Option<String>) -> Result<Option<[u8; 32]>, Unpack> {
        if let Some(digest) = self.known.get(&head.inode) {
            return Ok(Some(*digest));
        }
        self.count += 1;
        if self.count > MAX_LINKS {
            return Err(bad("cpio: too many links").into());
        }
        self.waiting.entry(head.inode).or_default().extend(path);
        Ok(None)
    }
}

fn member(
    reader: &mut dyn Read,
    head: &Head,
    name: &[u8],
    links: &mut Links,
    found: &mut Found<'_>,
) -> Result<(), Unpack> {
    let path = member_path(name);
    if !head.is_file() {
        return skip(reader, head.size + padding(head.size));
    }
    if head.size == 0 && head.links > 1 {
        if let (Some(digest), Some(path)) = (links.name(head, path.clone())?, path) {
            found(&path, digest).map_err(Unpack::Taken)?;
        }
        return Ok(());
    }
    let mut content = reader.take(head.size);
    let digest = sha256(&mut content)?;
    if content.limit() > 0 {
        return Err(bad("cpio: it ends inside a member").into());
    }
    skip(reader, padding(head.size))?;
    for path in links.content(head, path, digest) {
        found(&path, digest).map_err(Unpack::Taken)?;
    }
    Ok(())
}

/// Reads one archive, up to and with its last member.
pub(super) fn archive(reader: &mut dyn Read, found: &mut Found<'_>) -> Result<(), Unpack> {
    let mut links = Links::default();
    for _ in 0..MAX_MEMBERS {
        let head = Head::read(reader)?;
        let name = name(reader, &head)?;
        if name == END {
            skip(reader, head.size + padding(head.size))?;
            return empty_links(links, found);
        }
        member(reader, &head, &name, &mut links, found)?;
    }
    Err(bad(format!("cpio: more than {MAX_MEMBERS} members")).into())
}

/// Links whose content never came are an empty file.
fn empty_links(links: Links, found: &mut Found<'_>) -> Result<(), Unpack> {
    let digest = sha256(&mut std::io::empty())?;
    for path in links.waiting.into_values().flatten() {
        found(&path, digest).map_err(Unpack::Taken)?;
    }
    Ok(())
}
