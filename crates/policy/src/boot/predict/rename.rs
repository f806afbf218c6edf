//! Names of files carry the kernel's version.

/// From one version of the kernel to another, as `uname -r` has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The old one.
    pub from: String,
    /// The new one.
    pub to: String,
}

impl Rename {
    /// `text` with the new version wherever the old one stands by itself.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut all = String::new();
        let mut rest = text;
        while let Some(at) = self.find(rest) {
            let (before, after) = rest.split_at(at);
            all.push_str(before);
            all.push_str(&self.to);
            rest = after.get(self.from.len()..).unwrap_or_default();
        }
        all.push_str(rest);
        all
    }

    /// Whether `text` names the old version.
    pub(super) fn touches(&self, text: &str) -> bool {
        self.from != self.to && self.find(text).is_some()
    }

    fn find(&self, text: &str) -> Option<usize> {
        let mut places = text.match_indices(&self.from);
        places
            .find(|(at, found)| {
                let before = text.get(..*at).unwrap_or_default();
                let after = text.get(at + found.len()..).unwrap_or_default();
                !found.is_empty() && stands_alone(before, after)
            })
            .map(|(at, _)| at)
    }
}

/// `6.1.0-5` is not in `6.1.0-50`, nor in `6.1.0-5.1`, nor in `16.1.0-5`.
fn stands_alone(before: &str, after: &str) -> bool {
    let mut after = after.chars();
    let goes_on = match (after.next(), after.next()) {
        (Some(next), _) if next.is_ascii_alphanumeric() => true,
        (Some('.' | '+' | '~' | '_' | '-'), Some(digit)) => digit.is_ascii_digit(),
        _ => false,
    };
    let mut before = before.chars().rev();
    let began = match (before.next(), before.next()) {
        (Some(last), _) if last.is_ascii_alphanumeric() => true,
        (Some('.'), Some(digit)) => digit.is_ascii_digit(),
        _ => false,
    };
    !goes_on && !began
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_versions_are_replaced() {
        let rename = |from: &str, text: &str| {
            let rename = Rename {
                from: from.into(),
                to: "NEW".into(),
            };
            assert_eq!(rename.touches(text), rename.apply(text) != text);
            rename.apply(text)
        };
        let cases = [
            (
                "6.1.0-50-amd64",
                "linux /vmlinuz-6.1.0-50-amd64 ro",
                "linux /vmlinuz-NEW ro",
            ),
            (
                "6.1.0-50",
                "initrd /initramfs-6.1.0-50.img",
                "initrd /initramfs-NEW.img",
            ),
            ("6.1.0-5", "/vmlinuz-6.1.0-50", "/vmlinuz-6.1.0-50"),
            ("6.1.0-5", "/vmlinuz-16.1.0-5 x", "/vmlinuz-16.1.0-5 x"),
            ("6.1.0-5", "/vmlinuz-6.1.0-5.1", "/vmlinuz-6.1.0-5.1"),
            ("6.1", "a 6.1 6.1 b6.1", "a NEW NEW b6.1"),
        ];
        for (from, text, expected) in cases {
            assert_eq!(rename(from, text), expected, "{text}");
        }
        let none = Rename {
            from: String::new(),
            to: "x".into(),
        };
        assert_eq!(none.apply("ab"), "ab");
    }
}
