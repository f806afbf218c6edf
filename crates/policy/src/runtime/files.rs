//! Accepted digests of paths.

use std::{collections::BTreeMap, fmt};

use serde::{
    de::{self, MapAccess, SeqAccess},
    Deserialize, Deserializer, Serialize, Serializer,
};

use crate::digest::Digest32;

/// Most files of one policy.
pub(crate) const MAX_FILES: usize = 1_000_000;
/// Most digests of one path.
const MAX_DIGESTS: usize = 64;

/// Accepted SHA-256 digests of one path: one hex text, or a list of them.
#[derive(Clone, PartialEq, Eq)]
pub enum FileDigests {
    /// The usual case.
    One([u8; 32]),
    /// Sorted, without doubles.
    Many(Box<[[u8; 32]]>),
}

impl fmt::Debug for FileDigests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.as_slice().iter().map(hex::encode);
        f.debug_list().entries(texts).finish()
    }
}

impl FileDigests {
    /// The digests.
    #[must_use]
    pub fn as_slice(&self) -> &[[u8; 32]] {
        match self {
            Self::One(digest) => std::slice::from_ref(digest),
            Self::Many(digests) => digests,
        }
    }

    pub(super) fn contains(&self, digest: &[u8]) -> bool {
        self.as_slice().iter().any(|known| known == digest)
    }

    pub(super) fn add(&mut self, digest: [u8; 32]) {
        if !self.contains(&digest) {
            let mut all = self.as_slice().to_vec();
            all.push(digest);
            all.sort_unstable();
            *self = Self::Many(all.into());
        }
    }
}

impl Serialize for FileDigests {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(digest) => Digest32(*digest).serialize(serializer),
            Self::Many(digests) => {
                serializer.collect_seq(digests.iter().map(|digest| Digest32(*digest)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for FileDigests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = FileDigests;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a SHA-256 digest in hex, or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<FileDigests, E> {
                let digest: Digest32 = text.parse().map_err(E::custom)?;
                Ok(FileDigests::One(digest.0))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<FileDigests, A::Error> {
                let mut all: Vec<[u8; 32]> = Vec::new();
                while let Some(digest) = list.next_element::<Digest32>()? {
                    all.push(digest.0);
                    if all.len() > MAX_DIGESTS {
                        break;
                    }
                }
                if all.is_empty() || all.len() > MAX_DIGESTS {
                    let problem = format_args!("a path has 1 to {MAX_DIGESTS} digests");
                    return Err(de::Error::custom(problem));
                }
                all.sort_unstable();
                all.dedup();
                Ok(FileDigests::Many(all.into()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The map of files: a path twice is an error, not a silent choice.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Files(pub(super) BTreeMap<Box<str>, FileDigests>);

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Files;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of paths to digests")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Files, A::Error> {
                let mut files = BTreeMap::new();
                while let Some((path, digests)) = map.next_entry::<Box<str>, FileDigests>()? {
                    if files.len() >= MAX_FILES {
                        let problem = format_args!("more than {MAX_FILES} files");
                        return Err(de::Error::custom(problem));
                    }
                    if files.insert(path, digests).is_some() {
                        return Err(de::Error::custom("a path is listed twice"));
                    }
                }
                Ok(Files(files))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
