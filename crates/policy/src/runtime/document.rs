//! The runtime policy as it is written.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    buffers::{self, Buffers},
    device_mapper::Devices,
    files::Files,
    keys::SigningKeys,
    overlay::Prefixes,
    path_rule::PathRules,
    pattern::Patterns,
    DeviceRule, MemfdRule, PathPattern, PathRule, RuntimePolicy, SigningKey, ViolationRule,
};
use crate::error::PolicyError;

/// The newest version, which is read.
const VERSION: u32 = 2;

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
    excludes: Vec<PathPattern>,
    /// Prefixes under which the same files may be seen: the initramfs sees the root under `/sysroot`.
    #[serde(default)]
    also_under: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    overlay: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    refuse: Vec<PathPattern>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<PathRule>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signing_keys: Vec<SigningKey>,
    #[serde(default, skip_serializing_if = "buffers::Written::is_empty")]
    buffers: buffers::Written,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    device_mapper: Vec<DeviceRule>,
    #[serde(default)]
    files: Files,
}

impl Document {
    /// The first part that a reader of version 1 does not know.
    fn newer_part(&self) -> Option<&'static str> {
        let regex = |pattern: &PathPattern| matches!(pattern, PathPattern::Regex(_));
        [
            ("memfd: refuse", self.memfd == MemfdRule::Refuse),
            (
                "a regular expression in excludes",
                self.excludes.iter().any(regex),
            ),
            ("overlay", !self.overlay.is_empty()),
            ("refuse", !self.refuse.is_empty()),
            ("rules", !self.rules.is_empty()),
            ("signing_keys", !self.signing_keys.is_empty()),
            ("buffers", !self.buffers.is_empty()),
            ("device_mapper", !self.device_mapper.is_empty()),
        ]
        .into_iter()
        .find_map(|(part, used)| used.then_some(part))
    }
}

impl TryFrom<Document> for RuntimePolicy {
    type Error = PolicyError;

    fn try_from(document: Document) -> Result<Self, PolicyError> {
        match (document.version, document.newer_part()) {
            (1, Some(part)) => return Err(PolicyError::NeedsVersion2(part)),
            (1 | VERSION, _) => {}
            (found, _) => {
                return Err(PolicyError::Version {
                    found,
                    expected: VERSION,
                })
            }
        }
        Ok(Self {
            files: document.files,
            excludes: Patterns::new(document.excludes)?,
            refuse: Patterns::new(document.refuse)?,
            rules: PathRules::new(document.rules)?,
            prefixes: Prefixes::new(document.also_under, document.overlay)?,
            keys: SigningKeys::new(document.signing_keys)?,
            buffers: Buffers::new(document.buffers)?,
            devices: Devices::new(document.device_mapper)?,
            violations: document.violations,
            memfd: document.memfd,
        })
    }
}

impl From<RuntimePolicy> for Document {
    /// Version 1 as long as that says it all: readers of the release before can use it.
    fn from(policy: RuntimePolicy) -> Self {
        let mut document = Self {
            version: 1,
            violations: policy.violations,
            memfd: policy.memfd,
            excludes: policy.excludes.list().to_vec(),
            also_under: policy.prefixes.also_under.clone(),
            overlay: policy.prefixes.overlay().to_vec(),
            refuse: policy.refuse.list().to_vec(),
            rules: policy.rules.list().to_vec(),
            signing_keys: policy.keys.written().cloned().collect(),
            buffers: policy.buffers.written().clone(),
            device_mapper: policy.devices.written().cloned().collect(),
            files: policy.files,
        };
        if document.newer_part().is_some() {
            document.version = VERSION;
        }
        document
    }
}

impl RuntimePolicy {
    /// Reads a document: JSON when it begins with a brace, YAML else. Both have the same form; JSON is read faster.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn from_text(bytes: &[u8]) -> Result<Self, PolicyError> {
        match bytes.trim_ascii_start().first() {
            Some(b'{') => Self::from_json(bytes),
            _ => Self::from_yaml(bytes),
        }
    }

    /// Reads a JSON document.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, PolicyError> {
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Reads a YAML document.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn from_yaml(bytes: &[u8]) -> Result<Self, PolicyError> {
        Ok(serde_yaml::from_slice(bytes)?)
    }

    /// The document in YAML.
    ///
    /// # Errors
    /// [`PolicyError::Yaml`], never for a policy that was read.
    pub fn to_yaml(&self) -> Result<String, PolicyError> {
        Ok(serde_yaml::to_string(self)?)
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
