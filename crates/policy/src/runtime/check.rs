//! One entry against the rules.

use bootkeep_evidence::{
    ima::{DmEventKind, Entry, FileDigest},
    printable,
};
use bootkeep_protocol::verifier::Reason;

use super::{
    verdict::{Accepted, Explanation, Missing},
    MemfdRule, RuntimePolicy, RuntimeRules, ViolationRule,
};

impl RuntimeRules for RuntimePolicy {
    fn is_empty(&self) -> bool {
        RuntimePolicy::is_empty(self)
    }

    fn refusal(&self, number: u64, entry: &Entry) -> Option<Reason> {
        let missing = self.decide(entry).err()?;
        let detail = format!("IMA entry {number}, {}: {}", entry.path, missing.problem);
        Some(Reason {
            code: missing.code.to_owned(),
            detail: printable(&detail),
        })
    }
}

impl RuntimePolicy {
    /// Which rule accepts the entry, or what is missing.
    #[must_use]
    pub fn explain(&self, entry: &Entry) -> Explanation {
        match self.decide(entry) {
            Ok(accepted) => Explanation::Accepted(accepted),
            Err(missing) => Explanation::Refused(missing),
        }
    }

    fn decide(&self, entry: &Entry) -> Result<Accepted, Missing> {
        // PCR 10 takes all ones for a violation, so the node may write anything here: no other rule applies to it.
        if entry.violation {
            return self.violation();
        }
        let digest = entry.digest.as_ref().ok_or_else(|| {
            let problem = format!("unknown template {:?}", entry.template);
            Missing::new("ima-template", problem)
        })?;
        match &entry.buffer {
            Some(buffer) => self.buffer(entry, digest, buffer),
            None => self.file(entry, digest),
        }
    }

    fn violation(&self) -> Result<Accepted, Missing> {
        match self.violations {
            ViolationRule::Accept => Ok(Accepted::Violation),
            ViolationRule::Refuse => Err(Missing::new(
                "ima-violation",
                "a violation: the file was measured while it was open for writing (open_writers), or opened for \
                 writing while it was read (ToMToU), so no digest says what was used; neither path nor kind of a \
                 violation is covered by PCR 10",
            )),
        }
    }

    fn file(&self, entry: &Entry, digest: &FileDigest) -> Result<Accepted, Missing> {
        let path = entry.path.as_str();
        let others: Vec<&str> = self.prefixes.others(path).collect();
        let names = [&[path], others.as_slice()].concat();
        self.not_refused(path, &names)?;
        let memfd = is_memfd(path);
        if memfd && self.memfd == MemfdRule::Accept {
            return Ok(Accepted::Memfd);
        }
        let listed = match self.lookup(&names, digest) {
            Ok(accepted) => return Ok(accepted),
            Err(listed) => listed,
        };
        let ruled = match self.rules.accept(&names, digest) {
            Ok(number) => return Ok(self.rule(number)),
            Err(matched) => matched,
        };
        let signed = match self.signed(entry, digest, &names) {
            Some(Ok(accepted)) => return Ok(accepted),
            Some(Err(missing)) => Some(missing),
            None => None,
        };
        if let Some(pattern) = self.excludes.find(path) {
            let pattern = self.excludes.list().get(pattern).cloned();
            return pattern.map(Accepted::Excluded).ok_or_else(unlisted(digest));
        }
        Err(listed
            .or(signed)
            .or_else(|| ruled.then(|| other_content(digest)))
            .unwrap_or_else(unlisted(digest)))
    }

    fn not_refused(&self, path: &str, names: &[&str]) -> Result<(), Missing> {
        if is_memfd(path) && self.memfd == MemfdRule::Refuse {
            let problem = "a file that exists only in memory, and memfd: refuse";
            return Err(Missing::new("memfd", problem));
        }
        let Some(number) = names.iter().find_map(|name| self.refuse.find(name)) else {
            return Ok(());
        };
        let pattern = self.refuse.list().get(number).map_or("", |one| one.text());
        let problem = format!("nothing is accepted there (refuse: {pattern})");
        Err(Missing::new("file-refused", problem))
    }

    /// `Err(None)` when `files` has none of the names.
    fn lookup(&self, names: &[&str], digest: &FileDigest) -> Result<Accepted, Option<Missing>> {
        let mut missing = None;
        for (index, name) in names.iter().enumerate() {
            let Some(digests) = self.files.0.get(*name) else {
                continue;
            };
            if digest.algorithm == "sha256" && digests.contains(&digest.bytes) {
                return Ok(match index {
                    0 => Accepted::Listed,
                    _ => Accepted::ListedAs((*name).to_owned()),
                });
            }
            missing = missing.or_else(|| Some(other_digest(digest)));
        }
        Err(missing)
    }

    fn rule(&self, number: usize) -> Accepted {
        let path = self.rules.list().get(number).map(|rule| rule.path.clone());
        Accepted::Rule {
            number,
            path: path.unwrap_or_else(|| super::PathPattern::glob("")),
        }
    }

    /// `None` when nothing about signatures is to be said.
    fn signed(
        &self,
        entry: &Entry,
        digest: &FileDigest,
        names: &[&str],
    ) -> Option<Result<Accepted, Missing>> {
        if self.keys.is_empty() || entry.signature.is_empty() {
            return None;
        }
        let key = self.keys.accept(entry, digest, names);
        Some(key.map(|name| Accepted::Signature(name.to_owned())))
    }

    fn buffer(
        &self,
        entry: &Entry,
        digest: &FileDigest,
        buffer: &[u8],
    ) -> Result<Accepted, Missing> {
        if !entry.digest_covers_buffer() {
            let problem = format!("its digest ({digest}) is not that of its buffer");
            return Err(Missing::new("buffer-digest", problem));
        }
        let name = entry.path.as_str();
        if let Ok(accepted) = self.lookup(&[name], digest) {
            return Ok(accepted);
        }
        let by_rule = self.buffers.accept(name, buffer);
        if let Some(Ok(())) = by_rule {
            return Ok(Accepted::Buffer);
        }
        if let Some(kind) = DmEventKind::of(name) {
            return self.devices.accept(kind, buffer).map(Accepted::Device);
        }
        Err(match by_rule {
            Some(Err(missing)) => missing,
            _ => Missing::new(
                "buffer-not-listed",
                format!("a measured buffer that the policy has no rule for ({digest})"),
            ),
        })
    }
}

/// The kernel shows them without a path, some tools with one.
fn is_memfd(path: &str) -> bool {
    path.strip_prefix('/').unwrap_or(path).starts_with("memfd:")
}

fn other_digest(digest: &FileDigest) -> Missing {
    if digest.algorithm == "sha256" {
        return other_content(digest);
    }
    let algorithm = &digest.algorithm;
    Missing::new(
        "file-digest-algorithm",
        format!("measured with {algorithm}, the policy has SHA-256"),
    )
}

fn other_content(digest: &FileDigest) -> Missing {
    Missing::new("file-digest", format!("has another content ({digest})"))
}

fn unlisted(digest: &FileDigest) -> impl Fn() -> Missing + '_ {
    move || Missing::new("file-not-listed", format!("not in the policy ({digest})"))
}
