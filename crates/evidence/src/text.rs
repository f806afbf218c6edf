//! Text from a node, for people to read.

/// Most characters shown.
const MAX: usize = 512;

/// `text` fit for a terminal, a log or a page: control characters, characters that turn the direction of writing and
/// other invisible ones are shown as `?`; at most 512 characters.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().take(MAX).map(visible).collect()
}

/// `character`, or `?` when it would not be seen or would change how others are seen (Unicode Annex 9, category Cf).
pub(crate) fn visible(character: char) -> char {
    let hidden = matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    if hidden || character.is_control() {
        '?'
    } else {
        character
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_be_seen_is_shown() {
        for (given, shown) in [
            ("/usr/bin/über 日本", "/usr/bin/über 日本"),
            ("a\nb\u{1b}[2Jc\0", "a?b?[2Jc?"),
            ("gpj\u{202e}exe\u{200b}", "gpj?exe?"),
        ] {
            assert_eq!(printable(given), shown);
        }
        assert_eq!(printable(&"x".repeat(600)).len(), 512);
    }
}
