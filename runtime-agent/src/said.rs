//! What was said last: a wait of hours is one line in the journal, not thousands.

/// Remembers the last text.
#[derive(Debug, Default)]
pub(crate) struct Said(Option<String>);

impl Said {
    /// Whether this text is new since the last one.
    pub(crate) fn news(&mut self, text: &str) -> bool {
        let news = self.0.as_deref() != Some(text);
        if news {
            self.0 = Some(text.to_owned());
        }
        news
    }

    /// Forgets: what comes next is news.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_text_is_no_news() {
        let mut said = Said::default();
        let heard: Vec<bool> = ["a", "a", "b", "a"].iter().map(|t| said.news(t)).collect();
        assert_eq!(heard, [true, false, true, true]);
        said.clear();
        assert!(said.news("a"));
    }
}
