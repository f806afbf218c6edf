//! The images that were started (PCR 4) and what vouched for them (PCR 7).
//!
//! The digest of an image is known, its path is not. A signer is measured once, however many images it vouched for:
//! so each stage that names signers needs one of them among the authorities, and every authority must be named.

use bootkeep_evidence::eventlog::{Authority, Certificate, Claim, Guid};

use super::{
    document::{Pcr11, SignerRule, StageRule, StageSource},
    look::Look,
};
use crate::digest::Digest32;

const IMAGES: u8 = 4;
const AUTHORITIES: u8 = 7;

/// What the firmware says about its own doing in PCR 4.
const ACTIONS: [&str; 2] = [
    "Calling EFI Application from Boot Option",
    "Returning from EFI Application from Boot Option",
];

/// Whether a stage is known by its signer.
pub(super) fn names_signers(stages: &[StageRule]) -> bool {
    let mut sources = stages.iter().flat_map(|stage| &stage.any_of);
    sources.any(|source| source.signer.is_some())
}

/// An image in the log.
struct Image {
    index: usize,
    digest: [u8; 32],
    handed_over: bool,
}

/// `signed`: whether a key of the policy signed PCR 11.
pub(super) fn check(stages: &[StageRule], signed: bool, look: &mut Look<'_, '_>) {
    if stages.is_empty() {
        // Secure Boot alone: any authority will do, its key is governed by `db`.
        authorities(look)
            .iter()
            .for_each(|(index, _)| look.list(*index));
        return;
    }
    list_actions(look);
    let images: Vec<Image> = look
        .pick(IMAGES, |seen| match &seen.claim {
            Claim::Opaque(image) => Some((image.digest(), seen.handed_over)),
            _ => None,
        })
        .into_iter()
        .map(|(index, (digest, handed_over))| Image {
            index,
            digest,
            handed_over,
        })
        .collect();
    let found = authorities(look);
    let known = Known {
        authorities: &found,
        signed,
    };
    check_order(stages, &images, known, look);
    check_authorities(stages, &found, look);
}

fn list_actions(look: &mut Look<'_, '_>) {
    let known = look.pick(IMAGES, |seen| match &seen.claim {
        Claim::Action(text) => ACTIONS.contains(&text.as_str()).then_some(()),
        _ => None,
    });
    known.iter().for_each(|(index, ())| look.list(*index));
}

/// The images follow the stages; optional ones may be left out.
fn check_order(stages: &[StageRule], images: &[Image], known: Known<'_>, look: &mut Look<'_, '_>) {
    let mut left = stages.iter();
    for image in images {
        let rest = left.clone();
        let accepting = left.find_map(|stage| match accepts(stage, image, known) {
            true => Some(Ok(stage)),
            false if stage.optional => None,
            false => Some(Err(stage)),
        });
        match accepting {
            Some(Ok(stage)) => list_image(look, image, stage),
            Some(Err(stage)) => {
                let why = format!("not an image of stage {:?}, rule boot_stages", stage.name);
                look.refuse_event(image.index, "boot.stages.unknown", why);
            }
            None => {
                left = rest;
                let why = "an image after the last stage, rule boot_stages";
                look.refuse_event(image.index, "boot.stages.extra", why);
            }
        }
    }
    for stage in left.filter(|stage| !stage.optional) {
        let detail = format!(
            "PCR 4: stage {:?} did not start, rule boot_stages",
            stage.name
        );
        look.refuse("boot.stages.missing", detail);
    }
}

fn list_image(look: &mut Look<'_, '_>, image: &Image, stage: &StageRule) {
    look.list(image.index);
    if !image.handed_over && !stage.before_separator {
        let why = format!(
            "stage {:?} before the separator, rule boot_stages",
            stage.name
        );
        look.refuse_event(image.index, "boot.stages.before_separator", why);
    }
}

/// What vouches for images beside their digests.
#[derive(Clone, Copy)]
struct Known<'k> {
    authorities: &'k [(usize, Authority)],
    /// Whether a key of the policy signed PCR 11.
    signed: bool,
}

fn accepts(stage: &StageRule, image: &Image, known: Known<'_>) -> bool {
    stage.any_of.iter().any(|source| match source {
        StageSource {
            digest: Some(digest),
            ..
        } => digest.0 == image.digest,
        StageSource {
            signer: Some(signer),
            ..
        } => known
            .authorities
            .iter()
            .any(|(_, found)| is_signer(signer, found)),
        StageSource {
            pcr11: Some(Pcr11::Signed),
            ..
        } => known.signed,
        _ => false,
    })
}

/// Certificates and digests that vouched for an image.
fn authorities(look: &Look<'_, '_>) -> Vec<(usize, Authority)> {
    look.pick(AUTHORITIES, |seen| match &seen.claim {
        Claim::Authority(authority @ (Authority::Certificate { .. } | Authority::Hash { .. })) => {
            Some(authority.clone())
        }
        _ => None,
    })
}

/// With signers, each authority must be named; with digests alone the images are known better.
fn check_authorities(stages: &[StageRule], found: &[(usize, Authority)], look: &mut Look<'_, '_>) {
    let strict = names_signers(stages);
    for (index, authority) in found {
        let mut sources = stages.iter().flat_map(|stage| &stage.any_of);
        if !strict || sources.any(|source| names(source, authority)) {
            look.list(*index);
            continue;
        }
        let why = format!(
            "{} vouched for an image and is no signer of a stage, rule boot_stages",
            authority_text(authority)
        );
        look.refuse_event(*index, "boot.stages.signer", why);
    }
}

fn names(source: &StageSource, authority: &Authority) -> bool {
    match (authority, &source.signer, source.digest) {
        (Authority::Hash { digest, .. }, _, Some(listed)) => listed.0 == *digest,
        (_, Some(signer), _) => is_signer(signer, authority),
        _ => false,
    }
}

fn is_signer(rule: &SignerRule, authority: &Authority) -> bool {
    let Authority::Certificate {
        source,
        vendor,
        certificate,
    } = authority
    else {
        return false;
    };
    let in_source = match &rule.source {
        Some(wanted) => wanted == source,
        // Anybody at the console can put a key of any name into MokList.
        None => rule.fingerprint.is_some() || is_governed(source, *vendor),
    };
    in_source && is_certificate(rule, certificate)
}

/// Databases that only the platform's owner or shim's maker fills.
fn is_governed(source: &str, vendor: Guid) -> bool {
    match source {
        "db" => vendor == Guid::SECURITY_DATABASE,
        "Shim" | "vendor_db" => true,
        _ => false,
    }
}

fn is_certificate(rule: &SignerRule, certificate: &Certificate) -> bool {
    let names = certificate.names.as_ref();
    let is = |wanted: &Option<String>, found: Option<&String>| match wanted {
        Some(wanted) => found == Some(wanted),
        None => true,
    };
    rule.fingerprint
        .is_none_or(|wanted| wanted.0 == certificate.fingerprint)
        && is(&rule.subject, names.map(|names| &names.subject))
        && is(&rule.issuer, names.map(|names| &names.issuer))
}

pub(super) fn authority_text(authority: &Authority) -> String {
    match authority {
        Authority::Certificate {
            source,
            certificate,
            ..
        } => {
            let names = certificate.names.as_ref();
            let subject = names.map_or("a certificate", |names| names.subject.as_str());
            format!(
                "{subject} of {source} ({})",
                Digest32(certificate.fingerprint)
            )
        }
        Authority::Hash { source, digest, .. } => {
            format!("digest {} of {source}", Digest32(*digest))
        }
        _ => String::new(),
    }
}
