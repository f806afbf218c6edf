//! The runtime policy as it is written.

use std::{collections::BTreeMap, fmt};

use serde::{
    de::{self, MapAccess},
    Deserialize, Deserializer, Serialize, Serializer,
};
use serde_json::Value;

use super::{compile, MemfdRule, RuntimePolicy, ViolationRule, MAX_FILES};
use crate::{digest::Digest32, error::PolicyError};

const VERSION: u32 = 1;
/// Most prefixes under which the tree may also appear.
const MAX_PREFIXES: usize = 8;
/// Most digests of one path.
const MAX_DIGESTS: usize = 64;

/// The form in documents.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    version: u32,
    #[serde(default)]
    violations: ViolationRule,
    #[serde(default)]
    memfd: MemfdRule,
    #[serde(default)]
    excludes: Vec<String>,
    /// Prefixes under which the same files may be seen: the initramfs sees the root under `/sysroot`.
    #[serde(default)]
    also_under: Vec<String>,
    files: Files,
}

impl TryFrom<Document> for RuntimePolicy {
    type Error = PolicyError;
    fn try_from(document: Document) -> Result<Self, PolicyError> {
        if document.version != VERSION {
            return Err(PolicyError::Version {
                found: document.version,
                expected: VERSION,
            });
        }
        if document.also_under.len() > MAX_PREFIXES {
            return Err(PolicyError::TooMany {
                what: "prefixes",
                limit: MAX_PREFIXES,
            });
        }
        Ok(Self {
            excluded: compile(&document.excludes)?,
            files: document.files.0,
            excludes: document.excludes,
            also_under: document.also_under,
            violations: document.violations,
            memfd: document.memfd,
        })
    }
}

impl From<RuntimePolicy> for Document {
    fn from(policy: RuntimePolicy) -> Self {
        Self {
            version: VERSION,
            violations: policy.violations,
            memfd: policy.memfd,
            excludes: policy.excludes,
            also_under: policy.also_under,
            files: Files(policy.files),
        }
    }
}

impl RuntimePolicy {
    /// Reads a JSON document.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, PolicyError> {
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Reads a document that was part of another.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn from_value(value: Value) -> Result<Self, PolicyError> {
        Ok(serde_json::from_value(value)?)
    }

    /// The document, as a value for another document.
    ///
    /// # Errors
    /// [`PolicyError::Document`], never for a policy that was read.
    pub fn to_value(&self) -> Result<Value, PolicyError> {
        Ok(serde_json::to_value(self)?)
    }
}

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

    pub(super) fn contains(&self, digest: &[u8; 32]) -> bool {
        self.as_slice().contains(digest)
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

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    One(Digest32),
    Many(Vec<Digest32>),
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
        match Written::deserialize(deserializer)? {
            Written::One(digest) => Ok(Self::One(digest.0)),
            Written::Many(digests) if digests.is_empty() || digests.len() > MAX_DIGESTS => Err(
                de::Error::custom(format_args!("a path has 1 to {MAX_DIGESTS} digests")),
            ),
            Written::Many(digests) => {
                let mut all: Vec<[u8; 32]> = digests.into_iter().map(|digest| digest.0).collect();
                all.sort_unstable();
                all.dedup();
                Ok(Self::Many(all.into()))
            }
        }
    }
}

/// The map of files: a path twice is an error, not a silent choice.
#[derive(Serialize)]
struct Files(BTreeMap<Box<str>, FileDigests>);

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
                        return Err(de::Error::custom(format_args!(
                            "more than {MAX_FILES} files"
                        )));
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
