//! What device mapper measures as critical data (`drivers/md/dm-ima.c`, `Documentation/admin-guide/device-mapper/dm-ima.rst`).
//!
//! Records end with `;`, fields in them are parted by `,`, a field is `key=value`. Names and UUIDs have these three
//! and the backslash escaped; other texts have not, so a key that comes twice makes the whole event unreadable: one
//! of the two may have been smuggled in.

use std::collections::BTreeMap;

/// Largest event (bytes): the kernel's buffer is 4096, in two parts when a device is removed.
const MAX_EVENT: usize = 64 * 1024;
/// Most targets of one event.
const MAX_TARGETS: usize = 1024;
const ACTIVE: &str = "device_active_metadata=";
const INACTIVE: &str = "device_inactive_metadata=";

/// Fields of one record.
pub type Fields = BTreeMap<String, String>;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DmEventKind {
    /// A table was put into a device's inactive slot.
    Load,
    /// A device began to use the table that was loaded.
    Resume,
    /// A device went.
    Remove,
    /// A loaded table was dropped.
    Clear,
    /// A device has another name or UUID.
    Rename,
    /// A target changed while it was used (dm-verity found damage).
    Update,
}

impl DmEventKind {
    /// By the name in the list; the documentation of some kernels has them without `dm_`.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "dm_table_load" => Self::Load,
            "dm_device_resume" => Self::Resume,
            "dm_device_remove" => Self::Remove,
            "dm_table_clear" => Self::Clear,
            "dm_device_rename" => Self::Rename,
            "dm_target_update" => Self::Update,
            _ => return None,
        })
    }
}

/// A device: what is written about it before or after a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DmDevice {
    /// Its name.
    pub name: String,
    /// Its UUID, `CRYPT-VERITY-…`, `LVM-…`; often empty.
    pub uuid: String,
    /// How many targets its table has, when that was written.
    pub targets: Option<usize>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmEvent {
    /// What happened.
    pub kind: DmEventKind,
    /// The devices it names: as it was, and as it is called after a rename.
    pub devices: Vec<DmDevice>,
    /// The targets of the table, in its order (`target_name`, `root_digest`, `cipher_string` …).
    pub targets: Vec<Fields>,
}

impl DmEvent {
    /// Reads the buffer of an entry with this name.
    ///
    /// # Errors
    /// A text that says what is wrong with it.
    pub fn parse(kind: DmEventKind, buffer: &[u8]) -> Result<Self, &'static str> {
        if buffer.len() > MAX_EVENT {
            return Err("the event is over its limit");
        }
        let text = std::str::from_utf8(buffer).map_err(|_| "the event is not text")?;
        // Some kernels leave NULs between the parts when a device has no table.
        let text = text.replace('\0', "");
        let mut event = Self {
            kind,
            devices: Vec::new(),
            targets: Vec::new(),
        };
        for record in split(&text, ';').filter(|record| !record.is_empty()) {
            event.record(record)?;
        }
        event.complete()
    }

    fn record(&mut self, record: &str) -> Result<(), &'static str> {
        let record = record.strip_prefix(ACTIVE).unwrap_or(record);
        let fields = fields(record.strip_prefix(INACTIVE).unwrap_or(record))?;
        if fields.contains_key("target_index") {
            return self.target(fields);
        }
        if let Some(name) = fields.get("name") {
            if !self.targets.is_empty() {
                return Err("a device comes after its targets");
            }
            self.devices.push(DmDevice {
                name: name.clone(),
                uuid: fields.get("uuid").cloned().unwrap_or_default(),
                targets: fields.get("num_targets").and_then(|n| n.parse().ok()),
            });
        }
        if let Some(name) = fields.get("new_name") {
            self.devices.push(DmDevice {
                name: name.clone(),
                uuid: fields.get("new_uuid").cloned().unwrap_or_default(),
                targets: None,
            });
        }
        Ok(())
    }

    fn target(&mut self, fields: Fields) -> Result<(), &'static str> {
        let index = fields.get("target_index").and_then(|n| n.parse().ok());
        if self.kind == DmEventKind::Load && index != Some(self.targets.len()) {
            return Err("its targets are not counted from 0");
        }
        if self.targets.len() >= MAX_TARGETS {
            return Err("it has too many targets");
        }
        self.targets.push(fields);
        Ok(())
    }

    /// A table that is too long for one event is measured in several, and its last part perhaps not at all: such a
    /// load says too little.
    fn complete(self) -> Result<Self, &'static str> {
        let [first, ..] = self.devices.as_slice() else {
            return Err("it names no device");
        };
        match self.kind {
            DmEventKind::Load if self.devices.len() != 1 => Err("it names several devices"),
            DmEventKind::Load if first.targets != Some(self.targets.len()) => {
                Err("the table does not have the number of targets it says")
            }
            DmEventKind::Rename if self.devices.len() != 2 => Err("it names no new name"),
            _ => Ok(self),
        }
    }
}

fn fields(record: &str) -> Result<Fields, &'static str> {
    let mut fields = Fields::new();
    for field in split(record, ',').filter(|field| !field.is_empty()) {
        let mut parts = split(field, '=');
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
            return Err("a field is not key=value");
        };
        if parts.next().is_some() {
            return Err("a field has more than one =");
        }
        if fields.insert(key.to_owned(), unescape(value)).is_some() {
            return Err("a key comes twice");
        }
    }
    Ok(fields)
}

/// Splits where the separator is not escaped.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |character| {
        let separates = character == separator && !escaped;
        escaped = character == '\\' && !escaped;
        separates
    })
}

fn unescape(value: &str) -> String {
    let mut escaped = false;
    let keep = |character: &char| {
        escaped = *character == '\\' && !escaped;
        !escaped
    };
    value.chars().filter(keep).collect()
}
