//! What a person should know before relying on a policy: every rule that lets in more than listed files.

use super::{BufferRule, MemfdRule, PathPattern, RuntimePolicy, ViolationRule};

impl RuntimePolicy {
    /// What a person should know before relying on this policy.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.is_empty() {
            warnings.push("it lists no file: it accepts nothing".to_owned());
        }
        for pattern in self.excludes.list().iter().filter(|one| one.is_wide()) {
            let text = pattern.text();
            warnings.push(format!(
                "the exclude {text:?} is wide: programs put there are accepted"
            ));
        }
        self.warn_of_modes(&mut warnings);
        self.warn_of_keys(&mut warnings);
        self.warn_of_prefixes(&mut warnings);
        self.warn_of_buffers(&mut warnings);
        self.warn_of_devices(&mut warnings);
        warnings
    }

    fn warn_of_modes(&self, warnings: &mut Vec<String>) {
        if self.violations == ViolationRule::Accept {
            let text = "violations are accepted: a file being written while it runs is not noticed";
            warnings.push(text.to_owned());
        }
        if self.memfd == MemfdRule::Accept {
            let text = "memfd files are accepted: a program that exists only in memory passes";
            warnings.push(text.to_owned());
        }
    }

    fn warn_of_keys(&self, warnings: &mut Vec<String>) {
        for key in self.keys.written() {
            let name = &key.name;
            if key.paths.is_empty() {
                warnings.push(format!(
                    "the signing key {name:?} speaks for files anywhere: whoever holds it can run anything"
                ));
            }
            let old = "old versions of signed files stay accepted until the key goes";
            warnings.push(format!("signing key {name:?}: {old}"));
        }
    }

    fn warn_of_prefixes(&self, warnings: &mut Vec<String>) {
        for prefix in self.prefixes.overlay() {
            let below = PathPattern::Glob(format!("{prefix}/**"));
            if below.is_wide() {
                warnings.push(format!(
                    "the overlay prefix {prefix:?} is wide: a listed program passes under another name"
                ));
            }
        }
    }

    fn warn_of_buffers(&self, warnings: &mut Vec<String>) {
        for (name, rules) in self.buffers.written() {
            let texts = rules.iter().filter_map(|rule| match rule {
                BufferRule::Text(rule) => Some(&rule.text),
                _ => None,
            });
            let probes = ["", "init=/bin/sh", "\u{1}x\n/{}"];
            for text in texts {
                if probes.iter().any(|probe| text.matches(probe)) {
                    warnings.push(format!(
                        "a text rule of the buffer {name:?} matches almost anything"
                    ));
                }
            }
        }
    }

    fn warn_of_devices(&self, warnings: &mut Vec<String>) {
        for (number, rule) in self.devices.written().enumerate() {
            let name = rule.name.text();
            let Some(targets) = &rule.targets else {
                warnings.push(format!(
                    "device_mapper[{number}] ({name}) accepts any table for that device"
                ));
                continue;
            };
            for target in targets {
                let verity = target
                    .get("target_name")
                    .is_some_and(|kind| kind.matches("verity"));
                if !target.contains_key("target_name") {
                    warnings.push(format!(
                        "device_mapper[{number}] ({name}): a target without target_name may be of any kind"
                    ));
                } else if verity && !target.contains_key("root_digest") {
                    warnings.push(format!(
                        "device_mapper[{number}] ({name}): dm-verity without root_digest protects any data"
                    ));
                }
            }
        }
    }
}
