//! `ascii_runtime_measurements`: one line an entry, fields parted by one space, empty fields kept.

use super::{
    replay::IMA_PCR,
    template::{fields_of, OLD_DIGEST_LEN, OLD_NAME_LEN},
    Entry, ImaError, MAX_ENTRIES, MAX_TEMPLATE_DATA,
};

/// Parses a whole list.
///
/// # Errors
/// [`ImaError`], for the first line that is not an entry. Unknown templates are errors here: their text does not say
/// what was hashed.
pub fn parse_ascii(text: &str) -> Result<Vec<Entry>, ImaError> {
    text.lines()
        .enumerate()
        .map(|(number, line)| {
            entry(line)
                .filter(|_| number < MAX_ENTRIES)
                .ok_or("not a line of a measurement list")
                .and_then(|(template, data, sha1)| Entry::new(template, data, sha1))
                .map_err(|problem| ImaError {
                    entry: number,
                    problem,
                })
        })
        .collect()
}

fn entry(line: &str) -> Option<(&str, Vec<u8>, [u8; 20])> {
    if line.len() > 3 * MAX_TEMPLATE_DATA {
        return None;
    }
    let mut words = line.split(' ').skip_while(|word| word.is_empty());
    if words.next()?.parse::<u8>().ok()? != IMA_PCR {
        return None;
    }
    let mut sha1 = [0; 20];
    hex::decode_to_slice(words.next()?, &mut sha1).ok()?;
    let template = words.next()?;
    let data = if template == "ima" {
        old_data(words.next()?, words.next()?)?
    } else {
        let mut data = Vec::new();
        for field in fields_of(template)? {
            let value = field_bytes(field, words.next()?)?;
            data.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
            data.extend_from_slice(&value);
        }
        data
    };
    words.next().is_none().then_some((template, data, sha1))
}

fn field_bytes(field: &str, word: &str) -> Option<Vec<u8>> {
    match field {
        "d-ng" | "d-ngv2" | "d-modsig" if !word.is_empty() => {
            let (name, digest) = word.rsplit_once(':')?;
            let mut value = format!("{name}:\0").into_bytes();
            value.extend_from_slice(&hex::decode(digest).ok()?);
            Some(value)
        }
        "n-ng" => Some([word.as_bytes(), &[0]].concat()),
        // Shown as numbers and names, of a width the text does not tell.
        "iuid" | "igid" | "imode" | "xattrnames" | "xattrlengths" => None,
        _ => hex::decode(word).ok(),
    }
}

fn old_data(digest: &str, name: &str) -> Option<Vec<u8>> {
    let mut data = hex::decode(digest).ok()?;
    if data.len() != OLD_DIGEST_LEN || name.len() >= OLD_NAME_LEN {
        return None;
    }
    data.extend_from_slice(name.as_bytes());
    data.resize(OLD_DIGEST_LEN + OLD_NAME_LEN, 0);
    Some(data)
}
