//! What nodes say that keep their U.

use bootkeep_evidence::printable;
use bootkeep_protocol::{
    boot_files::{BootFile, BootFiles, MAX_BOOT_FILES, MAX_BOOT_PATH},
    limits::MAX_TEXT,
    Phase, ShareId,
};

use super::Link;
use crate::{fleet::Node, service::Verifier};

/// The node keeps the U of a split. It counts only from an initramfs that was appraised and to which this verifier has
/// sent the V of that very split over this link: whoever else says so wants the V dropped that the node needs.
pub(super) async fn share_kept(verifier: &Verifier, node: &Node, link: &Link, id: ShareId) {
    if link.phase != Phase::Initramfs || !link.was_offered(&id) {
        return refuse(
            verifier,
            node,
            "share-kept",
            "V of that split was not sent over this link",
        );
    }
    match verifier.fleet.acknowledge(node, id).await {
        Ok(Some(true)) => {
            verifier.counters.share_kept();
            node.step(
                "share-kept",
                &format!("the node keeps U of split {id}, older shares V are dropped"),
            );
        }
        Ok(Some(false)) => {}
        Ok(None) => refuse(
            verifier,
            node,
            "share-kept",
            "there is no such split any more, or this boot uses another K",
        ),
        Err(error) => {
            tracing::error!(node = node.id().short(), %error, "an acknowledgement could not be stored");
        }
    }
}

/// The files of the next boot have changed.
pub(super) async fn boot_files(verifier: &Verifier, node: &Node, link: &Link, report: BootFiles) {
    let checked = match check(report) {
        _ if link.phase != Phase::Runtime => Err("it does not come from the running system"),
        checked => checked,
    };
    let report = match checked {
        Ok(report) => report,
        Err(why) => return refuse(verifier, node, "boot-files", why),
    };
    let count = report.files.len();
    match verifier.fleet.keep_boot_files(node, report).await {
        Ok(true) => node.step(
            "boot-files",
            &format!("{count} files of the next boot are reported"),
        ),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(node = node.id().short(), %error, "a report of boot files could not be stored");
        }
    }
}

fn refuse(verifier: &Verifier, node: &Node, code: &str, why: &str) {
    verifier.counters.refused(code);
    node.step("refused", &format!("{code}: {why}"));
}

fn check(mut report: BootFiles) -> Result<BootFiles, &'static str> {
    if report.files.len() > MAX_BOOT_FILES {
        return Err("it names too many files");
    }
    if report
        .version
        .as_ref()
        .is_some_and(|version| version.len() > MAX_TEXT)
    {
        return Err("its kernel version is too long");
    }
    report.version = report.version.as_deref().map(printable);
    for file in &mut report.files {
        check_file(file)?;
        file.path = printable(&file.path);
    }
    Ok(report)
}

fn check_file(file: &BootFile) -> Result<(), &'static str> {
    let digest = |text: &String| {
        let hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        text.len() == 64 && text.bytes().all(hex)
    };
    if !file.path.starts_with('/') || file.path.len() > MAX_BOOT_PATH {
        return Err("a path is not absolute or too long");
    }
    if !digest(&file.sha256) || !file.authenticode.iter().all(digest) {
        return Err("a digest is not 64 lower-case hexadecimal digits");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bootkeep_protocol::boot_files::BootFileRole;

    use super::*;

    fn report() -> BootFiles {
        BootFiles {
            at_ms: 7,
            version: Some("6.8.0-31-generic".into()),
            files: vec![BootFile {
                role: BootFileRole::Kernel,
                path: "/boot/vmlinuz-6.8.0-31-generic".into(),
                size: 14_000_000,
                sha256: "ab".repeat(32),
                authenticode: Some("cd".repeat(32)),
            }],
        }
    }

    #[test]
    fn a_report_is_bounded_and_cleaned() {
        assert_eq!(check(report()).unwrap(), report());
        type Make = fn(&mut BootFiles);
        let bad: [(&str, Make); 8] = [
            ("files", |r| {
                r.files = vec![r.files[0].clone(); MAX_BOOT_FILES + 1]
            }),
            ("version", |r| r.version = Some("6".repeat(MAX_TEXT + 1))),
            ("relative", |r| r.files[0].path = "boot/vmlinuz".into()),
            ("no path", |r| r.files[0].path.clear()),
            ("long", |r| {
                r.files[0].path = format!("/{}", "a".repeat(MAX_BOOT_PATH))
            }),
            ("upper case", |r| r.files[0].sha256 = "AB".repeat(32)),
            ("short", |r| r.files[0].sha256 = "ab".repeat(31)),
            ("authenticode", |r| {
                r.files[0].authenticode = Some(String::new())
            }),
        ];
        for (name, make) in bad {
            let mut report = report();
            make(&mut report);
            assert!(check(report).is_err(), "{name}");
        }
        let mut ugly = report();
        ugly.files[0].path = "/boot/\u{1b}[31m\n".into();
        ugly.version = Some("6.8\n".into());
        let clean = check(ugly).unwrap();
        assert_eq!(clean.files[0].path, "/boot/?[31m?");
        assert_eq!(clean.version.as_deref(), Some("6.8?"));
    }
}
