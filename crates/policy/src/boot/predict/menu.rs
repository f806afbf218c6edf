//! The menu of a `grub.cfg`: GRUB measures an entry, words and block, when the file defines it.

/// A `menuentry` or `submenu` that is not inside another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The words before the block as GRUB joins them; `None` when one of them is known only when it runs.
    words: Option<String>,
    /// The block with its braces, as it stands.
    block: String,
}

const COMMANDS: [&str; 2] = ["menuentry", "submenu"];

/// Whether a measured command defines an entry.
pub(super) fn defines_entry(command: &str) -> bool {
    let word = command.split(' ').next().unwrap_or_default();
    COMMANDS.contains(&word) && command.contains('{')
}

impl Entry {
    /// The command as it will be measured.
    pub(super) fn command(&self) -> Option<String> {
        Some(format!("{} {}", self.words.as_ref()?, self.block))
    }

    /// Whether it is the entry that an old command defined: same kind and title.
    pub(super) fn replaces(&self, old: &str) -> bool {
        let words = self.words.as_deref().unwrap_or_default();
        let title = words.split(" --").next().unwrap_or_default();
        old.strip_prefix(title)
            .is_some_and(|rest| rest.starts_with([' ', '{']))
    }
}

/// The entries of a file in their order.
pub(super) fn entries(config: &str) -> Vec<Entry> {
    let mut all = Vec::new();
    let mut rest = config;
    while let Some(line_end) = rest.find('\n').map(|at| at + 1).or_else(|| {
        let left = rest.len();
        (left > 0).then_some(left)
    }) {
        let line = rest.get(..line_end).unwrap_or_default();
        let word = line.split_whitespace().next().unwrap_or_default();
        match COMMANDS.contains(&word).then(|| entry(rest)).flatten() {
            Some((entry, length)) => {
                all.push(entry);
                rest = rest.get(length..).unwrap_or_default();
            }
            None => rest = rest.get(line_end..).unwrap_or_default(),
        }
    }
    all
}

/// The entry at the beginning of `text`, and where it ends.
fn entry(text: &str) -> Option<(Entry, usize)> {
    let open = outside_quotes(text, |c| c == '{')?;
    let mut depth = 0_usize;
    let block = text.get(open..)?;
    let close = outside_quotes(block, |c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    })?;
    let entry = Entry {
        words: words(text.get(..open)?),
        block: block.get(..=close)?.to_owned(),
    };
    Some((entry, open + close + 1))
}

/// The first character outside of quotes that is wanted.
fn outside_quotes(text: &str, mut wanted: impl FnMut(char) -> bool) -> Option<usize> {
    let mut quote = None;
    let mut before = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if before == Some('\\') && quote != Some('\'') => {}
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), close) if open == close => quote = None,
            (None, _) if wanted(c) => return Some(at),
            _ => {}
        }
        before = Some(c);
    }
    None
}

/// Quotes taken off, words parted by one blank. Of variables only the one that every generated file uses is known.
fn words(header: &str) -> Option<String> {
    let header = header.replace("${menuentry_id_option}", "--id");
    let header = header.replace("$menuentry_id_option", "--id");
    let mut all = vec![String::new()];
    let mut quote = None;
    for c in header.trim().chars() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '$' | '\\') => return None,
            (None, c) if c.is_whitespace() => all.push(String::new()),
            (_, c) => all.last_mut()?.push(c),
        }
    }
    all.retain(|word| !word.is_empty());
    Some(all.join(" "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CONFIG: &str = "set timeout=5\n\
        if [ x = y ]; then\n  true\nfi\n\
        menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'simple-1' {\n\tlinux /vmlinuz-2 a='}'\n}\n\
        submenu 'Advanced options' $menuentry_id_option 'advanced' {\n\tmenuentry 'Old' {\n\t\tlinux ${x}\n\t}\n}\n\
        # menuentry 'not one' {\n\
        menuentry \"UEFI $x\" {\n\tfwsetup\n}\n";

    #[test]
    fn entries_are_found_with_their_blocks() {
        let found = entries(CONFIG);
        let commands: Vec<Option<String>> = found.iter().map(Entry::command).collect();
        assert_eq!(
            commands,
            [
                Some("menuentry Debian GNU/Linux --class debian --id simple-1 {\n\tlinux /vmlinuz-2 a='}'\n}".to_owned()),
                Some("submenu Advanced options --id advanced {\n\tmenuentry 'Old' {\n\t\tlinux ${x}\n\t}\n}".to_owned()),
                None,
            ]
        );
        assert!(found[0].replaces("menuentry Debian GNU/Linux --class debian --id simple-1 {old}"));
        assert!(!found[1].replaces("menuentry Debian GNU/Linux --class debian {old}"));
        assert!(entries("menuentry 'cut short' {").is_empty());
        assert!(entries("").is_empty());
    }
}
