//! shim's `SbatLevel`: the oldest generation of each component that this machine still starts.

use super::ClaimError;

/// Most lines.
const MAX_LINES: usize = 256;

/// The least generation of one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// `shim`, `grub`, `grub.debian`, ….
    pub component: String,
    /// Counts from 1.
    pub generation: u32,
}

/// `sbat,1,2022052400` and a line for each component (<https://github.com/rhboot/shim/blob/main/SBAT.md>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SbatLevel {
    /// `YYYYMMDDnn`.
    pub date: u64,
    /// The components.
    pub generations: Vec<Generation>,
}

impl SbatLevel {
    /// Parses the variable's contents.
    ///
    /// # Errors
    /// [`ClaimError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ClaimError> {
        let bad = ClaimError::Malformed("SbatLevel is not a list of component,generation");
        let text = std::str::from_utf8(bytes).map_err(|_| bad.clone())?;
        let text = text.trim_end_matches('\0');
        let mut lines = text.lines().filter(|line| !line.is_empty());
        let first: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
        let date = match first.as_slice() {
            ["sbat", _, date, ..] => date.parse().map_err(|_| bad.clone())?,
            _ => return Err(bad),
        };
        let generations: Vec<_> = lines.map(generation).collect::<Option<_>>().ok_or(bad)?;
        if generations.len() > MAX_LINES {
            return Err(ClaimError::Malformed(
                "SbatLevel has more lines than the limit",
            ));
        }
        Ok(Self { date, generations })
    }

    /// The least generation of a component; 0 when it is not named: any is started.
    #[must_use]
    pub fn of(&self, component: &str) -> u32 {
        let mut all = self.generations.iter();
        all.find(|line| line.component == component)
            .map_or(0, |line| line.generation)
    }
}

fn generation(line: &str) -> Option<Generation> {
    let mut fields = line.split(',');
    Some(Generation {
        component: fields.next()?.to_owned(),
        generation: fields.next()?.trim().parse().ok()?,
    })
}
