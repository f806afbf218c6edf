//! The images of known-good boots, and what vouched for them.

use bootkeep_evidence::eventlog::{Authority, Claim};

use super::boot::Boot;
use crate::boot::document::{SignerRule, StageSource};

/// An image that was started.
pub(super) struct Image {
    pub(super) digest: [u8; 32],
    pub(super) hint: String,
    pub(super) handed_over: bool,
}

pub(super) fn images(boot: &Boot<'_>) -> Vec<Image> {
    let mut handed_over = false;
    let mut all = Vec::new();
    for (event, claim) in boot.log.iter().flatten() {
        match claim {
            _ if event.pcr != 4 => {}
            Claim::Separator(_) => handed_over = true,
            Claim::Opaque(image) => all.push(Image {
                digest: image.digest(),
                hint: image.hint(),
                handed_over,
            }),
            _ => {}
        }
    }
    all
}

pub(super) fn name_of(images: &[&Image], place: usize) -> String {
    let hint = images.first().map_or("", |image| image.hint.as_str());
    let hint = hint.to_lowercase();
    let known = [
        ("shim", "shim"),
        ("grub", "grub"),
        ("systemd-boot", "systemd-boot"),
        ("/linux/", "uki"),
        ("vmlinuz", "linux"),
        ("kernel", "linux"),
        ("boot\\bootx64.efi", "boot loader"),
    ];
    let named = known.iter().find(|(part, _)| hint.contains(part));
    named.map_or_else(
        || format!("stage {}", place + 1),
        |(_, name)| (*name).to_owned(),
    )
}

/// Certificates that vouched for images, each once, in the order of the logs.
pub(super) fn signers(boots: &[Boot<'_>]) -> Vec<SignerRule> {
    let mut all: Vec<SignerRule> = Vec::new();
    for authority in boots.iter().flat_map(Boot::authorities) {
        let Authority::Certificate {
            source,
            certificate,
            ..
        } = authority
        else {
            continue;
        };
        let signer = SignerRule {
            fingerprint: Some(certificate.fingerprint.into()),
            subject: certificate.names.map(|names| names.subject),
            issuer: None,
            source: Some(source),
        };
        if !all.contains(&signer) {
            all.push(signer);
        }
    }
    all
}

/// A certificate is measured when it first vouches for an image: the first stage has the first one, later stages one
/// of those that follow, or the last again. Certificates left over belong to the last stage.
pub(super) fn sources_by_signer(
    signers: &[SignerRule],
    place: usize,
    stages: usize,
) -> Vec<StageSource> {
    let last = signers.len() - 1;
    let first = place.min(last);
    let end = if place + 1 == stages { last } else { first };
    let of_stage = signers.get(first..=end).unwrap_or_default();
    of_stage
        .iter()
        .map(|signer| StageSource {
            signer: Some(signer.clone()),
            ..StageSource::default()
        })
        .collect()
}

pub(super) fn sources_by_digest(images: &[&Image]) -> Vec<StageSource> {
    let mut all: Vec<StageSource> = Vec::new();
    for image in images {
        let source = StageSource {
            digest: Some(image.digest.into()),
            note: image.hint.clone(),
            ..StageSource::default()
        };
        if all.iter().all(|known| known.digest != source.digest) {
            all.push(source);
        }
    }
    all
}
