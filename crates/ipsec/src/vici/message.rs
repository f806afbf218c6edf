//! A message: names with values, lists, and sections.

use zeroize::Zeroizing;

use super::ViciError;

/// Deepest nesting of sections. charon's own messages have five.
const MAX_DEPTH: usize = 16;

const SECTION_START: u8 = 1;
const SECTION_END: u8 = 2;
const KEY_VALUE: u8 = 3;
const LIST_START: u8 = 4;
const LIST_ITEM: u8 = 5;
const LIST_END: u8 = 6;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text or binary data; a key, at times.
    Data(Zeroizing<Vec<u8>>),
    /// Several of them.
    List(Vec<Vec<u8>>),
    /// A message in a message.
    Section(Message),
}

/// Names with values, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(Vec<(String, Value)>);

impl Message {
    /// An empty message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let data = Value::Data(Zeroizing::new(value.as_ref().to_vec()));
        self.0.push((name.to_owned(), data));
        self
    }

    /// With a list, unless it is empty.
    #[must_use]
    pub fn with_list<T: AsRef<[u8]>>(
        mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
    ) -> Self {
        let list: Vec<Vec<u8>> = items.into_iter().map(|i| i.as_ref().to_vec()).collect();
        if !list.is_empty() {
            self.0.push((name.to_owned(), Value::List(list)));
        }
        self
    }

    /// With a section.
    #[must_use]
    pub fn with_section(mut self, name: &str, section: Self) -> Self {
        self.0.push((name.to_owned(), Value::Section(section)));
        self
    }

    /// The text of a name.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.value(name)? {
            Value::Data(data) => std::str::from_utf8(data).ok(),
            _ => None,
        }
    }

    /// Whether a name says `yes`.
    #[must_use]
    pub fn is_yes(&self, name: &str) -> bool {
        self.text(name) == Some("yes")
    }

    /// The section of a name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Self> {
        match self.value(name)? {
            Value::Section(section) => Some(section),
            _ => None,
        }
    }

    /// The texts of a list; none when there is no such list.
    pub fn list<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let items = match self.value(name) {
            Some(Value::List(items)) => items.as_slice(),
            _ => &[],
        };
        items
            .iter()
            .filter_map(|item| std::str::from_utf8(item).ok())
    }

    /// Every section, with its name.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.0.iter().filter_map(|(name, value)| match value {
            Value::Section(section) => Some((name.as_str(), section)),
            _ => None,
        })
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value)
    }

    /// Appends it in the form of the wire.
    ///
    /// # Errors
    /// [`ViciError::Long`] for a name over 255 bytes or a value over 65,535.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), ViciError> {
        for (name, value) in &self.0 {
            write_one(name, value, out)?;
        }
        Ok(())
    }

    /// Reads the form of the wire, all of it.
    ///
    /// # Errors
    /// [`ViciError::Malformed`].
    pub fn read(bytes: &[u8]) -> Result<Self, ViciError> {
        let mut reader = Reader(bytes);
        reader.message(0)
    }
}

fn write_one(name: &str, value: &Value, out: &mut Vec<u8>) -> Result<(), ViciError> {
    match value {
        Value::Data(data) => {
            out.push(KEY_VALUE);
            write_name(name, out)?;
            write_data(name, data, out)
        }
        Value::List(items) => {
            out.push(LIST_START);
            write_name(name, out)?;
            for item in items {
                out.push(LIST_ITEM);
                write_data(name, item, out)?;
            }
            out.push(LIST_END);
            Ok(())
        }
        Value::Section(section) => {
            out.push(SECTION_START);
            write_name(name, out)?;
            section.write(out)?;
            out.push(SECTION_END);
            Ok(())
        }
    }
}

/// A name: one byte of length, then the name.
pub(super) fn write_name(name: &str, out: &mut Vec<u8>) -> Result<(), ViciError> {
    let length = u8::try_from(name.len()).map_err(|_| ViciError::Long(name.to_owned()))?;
    out.push(length);
    out.extend_from_slice(name.as_bytes());
    Ok(())
}

fn write_data(name: &str, data: &[u8], out: &mut Vec<u8>) -> Result<(), ViciError> {
    let length = u16::try_from(data.len()).map_err(|_| ViciError::Long(name.to_owned()))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(data);
    Ok(())
}

/// What is left to read.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The elements up to the end of the section; of the bytes at depth 0.
    fn message(&mut self, depth: usize) -> Result<Message, ViciError> {
        if depth > MAX_DEPTH {
            return Err(ViciError::Malformed("sections are nested too deeply"));
        }
        let mut message = Message::new();
        while let Some(kind) = self.element(depth)? {
            let name = self.name()?;
            let value = match kind {
                KEY_VALUE => Value::Data(Zeroizing::new(self.data()?)),
                LIST_START => Value::List(self.items()?),
                SECTION_START => Value::Section(self.message(depth + 1)?),
                _ => return Err(ViciError::Malformed("an unknown element")),
            };
            message.0.push((name, value));
        }
        Ok(message)
    }

    /// The kind of the next element; none at the end of the section.
    fn element(&mut self, depth: usize) -> Result<Option<u8>, ViciError> {
        if self.0.is_empty() && depth == 0 {
            return Ok(None);
        }
        match self.byte()? {
            SECTION_END if depth > 0 => Ok(None),
            kind => Ok(Some(kind)),
        }
    }

    fn items(&mut self) -> Result<Vec<Vec<u8>>, ViciError> {
        let mut items = Vec::new();
        loop {
            match self.byte()? {
                LIST_ITEM => items.push(self.data()?),
                LIST_END => return Ok(items),
                _ => return Err(ViciError::Malformed("not an item in a list")),
            }
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, ViciError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn name(&mut self) -> Result<String, ViciError> {
        let length = self.byte()?;
        let name = self.take(usize::from(length))?;
        match std::str::from_utf8(name) {
            Ok(name) => Ok(name.to_owned()),
            Err(_) => Err(ViciError::Malformed("a name is no text")),
        }
    }

    fn data(&mut self) -> Result<Vec<u8>, ViciError> {
        let length = self.take(2)?;
        let length = u16::from_be_bytes([length[0], length[1]]);
        Ok(self.take(usize::from(length))?.to_vec())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ViciError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(ViciError::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        let data = || proptest::collection::vec(any::<u8>(), 0..40);
        let leaf = prop_oneof![
            data().prop_map(|data| Value::Data(Zeroizing::new(data))),
            proptest::collection::vec(data(), 0..4).prop_map(Value::List),
        ];
        let value = leaf.prop_recursive(4, 32, 4, |inner| {
            proptest::collection::vec(("[a-z-]{0,8}", inner), 0..4)
                .prop_map(|pairs| Value::Section(Message(pairs)))
        });
        proptest::collection::vec(("[a-z-]{1,8}", value), 0..6).prop_map(Message)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(message in message()) {
            let mut bytes = Vec::new();
            message.write(&mut bytes).unwrap();
            prop_assert_eq!(Message::read(&bytes).unwrap(), message);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::read(&bytes);
        }

        #[test]
        fn a_cut_message_is_refused_or_shorter(message in message(), cut in 1_usize..30) {
            let mut bytes = Vec::new();
            message.write(&mut bytes).unwrap();
            let kept = bytes.len().saturating_sub(cut);
            if let Ok(read) = Message::read(&bytes[..kept]) {
                prop_assert!(read.0.len() < message.0.len() || bytes.is_empty());
            }
        }
    }

    /// From strongSwan's README of the plug-in.
    #[test]
    fn the_example_of_the_documentation() {
        let section = Message::new()
            .with("key1", "value1")
            .with_section("sub-section", Message::new().with("key2", "value2"));
        let message = Message::new()
            .with_section("section1", section)
            .with_list("list1", ["item1", "item2"]);
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        let mut expected = Vec::new();
        expected.extend_from_slice(b"\x01\x08section1\x03\x04key1\x00\x06value1");
        expected.extend_from_slice(b"\x01\x0bsub-section\x03\x04key2\x00\x06value2\x02\x02");
        expected.extend_from_slice(b"\x04\x05list1\x05\x00\x05item1\x05\x00\x05item2\x06");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut bytes = Vec::new();
        for _ in 0..100_000 {
            bytes.extend_from_slice(b"\x01\x01a");
        }
        assert!(matches!(
            Message::read(&bytes),
            Err(ViciError::Malformed(_))
        ));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = Message::new().with("x", vec![0; 65_536]);
        assert!(matches!(
            long.write(&mut Vec::new()),
            Err(ViciError::Long(_))
        ));
    }
}
