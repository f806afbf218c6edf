//! The command line as the kernel's EFI stub measures it: only its digest is in the log (PCR 9).

use bootkeep_evidence::eventlog::Event;
use sha2::{Digest, Sha256};

use super::{chain::Role, uki::wide, Predictor, Step, UkiContents, Why};
use crate::boot::grub::is_command_line;

/// How a text becomes what is measured.
#[derive(Clone, Copy)]
struct Form {
    /// GRUB names the kernel first.
    before: &'static str,
    /// OVMF names the initramfs that QEMU gave it.
    after: &'static str,
    /// UTF-16 ends with a NUL, or does not.
    end: &'static str,
}

const FORMS: [Form; 6] = [
    form("", "", "\0"),
    form("", "", ""),
    form("BOOT_IMAGE=", "", "\0"),
    form("BOOT_IMAGE=", "", ""),
    form("", " initrd=initrd", "\0"),
    form("", " initrd=initrd", ""),
];

const fn form(before: &'static str, after: &'static str, end: &'static str) -> Form {
    Form { before, after, end }
}

impl Form {
    fn text(self, line: &str) -> String {
        format!("{}{line}{}", self.before, self.after)
    }

    fn digest(self, line: &str) -> [u8; 32] {
        Sha256::digest(wide(&format!("{}{}", self.text(line), self.end))).into()
    }
}

impl Predictor<'_> {
    pub(super) fn load_options(&mut self, event: &Event) -> Step {
        if self.next.uki.is_some() && !self.is_overridden(event) {
            return self.line_of_image(event);
        }
        if let Some((line, form)) = self.known(event) {
            let words = usize::from(is_command_line(&line));
            let new = match words {
                0 => self.next.command_line.clone(),
                _ => None,
            };
            let new = new.unwrap_or_else(|| self.with_parameters(&line, words));
            return self.becomes(event, form, &new);
        }
        match &self.next.command_line {
            None if self.kernel_moves() => Step::Unknown(Why::LoadOptions),
            None => Step::Same,
            Some(line) if self.chain.has(Role::QemuKernel) => {
                let after = match self.chain.has(Role::Initrd) {
                    true => " initrd=initrd",
                    false => "",
                };
                let line = line.clone();
                self.becomes(event, form("", after, "\0"), &line)
            }
            Some(_) => Step::Unknown(Why::LoadOptions),
        }
    }

    /// A text of the log and the form in which its digest is the event's.
    fn known(&self, event: &Event) -> Option<(String, Form)> {
        self.chain.lines().find_map(|line| {
            let mut forms = FORMS.into_iter();
            let form = forms.find(|form| form.digest(line) == event.digest)?;
            Some((line.to_owned(), form))
        })
    }

    /// Without Secure Boot a boot loader's command line (PCR 12) takes the place of the image's.
    fn is_overridden(&self, event: &Event) -> bool {
        self.known(event).is_some()
    }

    fn line_of_image(&mut self, event: &Event) -> Step {
        let contents = self.next.uki.as_ref().map(|uki| uki.contents.as_ref());
        match contents {
            Some(Some(UkiContents {
                command_line: Some(line),
                ..
            })) => {
                let line = line.clone();
                self.becomes(event, form("", "", "\0"), &line)
            }
            Some(None) => Step::Unknown(Why::Contents),
            _ => Step::Same,
        }
    }

    fn becomes(&mut self, event: &Event, form: Form, line: &str) -> Step {
        self.load_options = Some(form.text(line));
        Step::digest(event, form.digest(line))
    }
}
