//! Before cloud-init: the hand-over becomes its only seed.

use std::{fs, io};

use bootkeep_handover::{private_folder, ForCloudInit};
use bootkeep_protocol::Bytes;
use bootkeep_tpkd::{SealedText, DOCUMENT_MIME};
use serde_json::json;

use crate::{guard, instance, record, state::State, surroundings, Config, Places};

const HANDED_OVER: &str = "user-data.json";

/// Why cloud-init must not run. Its services require this step, so it does not.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// A folder or file of ours could not be made.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
    /// Configuration that no guard can stop.
    #[error("{0}; cloud-init is not started")]
    KernelConfig(String),
    /// No guard.
    #[error("{0}; cloud-init is not started")]
    Guard(io::Error),
}

/// Prepares cloud-init's run of this boot. A second call in the same boot changes nothing.
///
/// # Errors
/// [`SeedError`]: cloud-init must not run.
pub fn seed(places: &Places) -> Result<(), SeedError> {
    let io = |what| move |error| SeedError::Io(what, error);
    places.handover.prepare().map_err(io("hand-over folder"))?;
    private_folder(&places.memory()).map_err(io("folder of this boot"))?;
    let strict = Config::strict_unless_allowed(&places.config).require_sealed;
    if strict {
        refuse_kernel_config(places)?;
    }
    guard::install(places).map_err(|error| no_guard(places, error))?;
    if State::load(places)
        .map_err(io("state of this boot"))?
        .is_some()
    {
        return Ok(());
    }
    let handed = take(places);
    let documents = handed.documents.clone();
    if documents.is_empty() && strict {
        // The cloud has a say in this boot: without the guard it would have root.
        guard::loads(places).map_err(|error| no_guard(places, error))?;
    }
    let state = State::of(handed);
    state.save(places).map_err(io("state of this boot"))?;
    if !documents.is_empty() {
        write(places, &state, &documents).map_err(io("seed"))?;
    }
    Ok(())
}

fn refuse_kernel_config(places: &Places) -> Result<(), SeedError> {
    match surroundings::kernel_config(&surroundings::cmdline(places)) {
        None => Ok(()),
        Some(found) => {
            record::refuse(places, "cloud-init-kernel-config", &found);
            Err(SeedError::KernelConfig(found))
        }
    }
}

fn no_guard(places: &Places, error: io::Error) -> SeedError {
    record::refuse(places, "cloud-init-guard", &error.to_string());
    SeedError::Guard(error)
}

/// What cannot be read opens nothing, and is reported.
fn take(places: &Places) -> ForCloudInit {
    let taken = places.handover.take(HANDED_OVER);
    taken
        .inspect_err(|error| {
            record::refuse(places, "cloud-init-handover", &error.to_string());
        })
        .ok()
        .flatten()
        .unwrap_or_default()
}

fn write(places: &Places, state: &State, documents: &[Bytes]) -> io::Result<()> {
    let folder = places.seed();
    private_folder(&folder)?;
    let instance = instance::id(state, documents, &instance::salt(&places.salt)?);
    let meta_data = json!({ "instance-id": instance });
    for (name, contents) in [
        ("meta-data", meta_data.to_string()),
        ("user-data", user_data(documents)),
        ("vendor-data", String::new()),
    ] {
        guard::replace(&folder.join(name), contents.as_bytes(), 0o600)?;
    }
    fs::create_dir_all(&places.cloud_run)?;
    let config = runtime_config(&format!("{}/", folder.display()));
    guard::replace(
        &places.cloud_run.join("cloud.cfg"),
        config.as_bytes(),
        0o644,
    )
}

/// The documents stay sealed in the seed: the guard opens them, so cloud-init keeps only ciphertext of them on disk.
fn user_data(documents: &[Bytes]) -> String {
    let texts: Vec<_> = documents
        .iter()
        .map(|document| SealedText::encode(document.as_slice()))
        .collect();
    if let [text] = texts.as_slice() {
        return text.message();
    }
    // No line of base64 starts with a hyphen, so this boundary cannot be inside a part.
    let parts = texts.iter().map(|text| {
        format!(
            "--bootkeep\nContent-Type: {DOCUMENT_MIME}; charset=\"us-ascii\"\n\n{}",
            text.0
        )
    });
    format!(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"bootkeep\"\n\n{}--bootkeep--\n",
        parts.collect::<String>()
    )
}

/// Beats `/etc/cloud` and what the firmware's serial number names as a seed.
fn runtime_config(seed: &str) -> String {
    json!({
        "datasource_list": ["NoCloud"],
        "datasource": { "NoCloud": { "seedfrom": seed, "fs_label": null } },
    })
    .to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        os::unix::fs::{symlink, PermissionsExt},
        path::{Path, PathBuf},
    };

    use super::*;

    fn node() -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        let places = Places::under(root.path());
        for folder in [
            "run",
            "proc",
            "var/lib/cloud",
            "usr/share/bootkeep",
            "usr/bin",
        ] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(&places.guard, "guard").unwrap();
        python(&places, 0);
        (root, places)
    }

    fn python(places: &Places, code: u8) {
        fs::write(&places.python, format!("#!/bin/sh\nexit {code}\n")).unwrap();
        fs::set_permissions(&places.python, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn hand_over(places: &Places, documents: &[&[u8]]) {
        places.handover.prepare().unwrap();
        let handed = ForCloudInit {
            node_id: "a".repeat(64),
            documents: documents.iter().map(|&document| document.into()).collect(),
            keys: Vec::new(),
        };
        places.handover.write(HANDED_OVER, &handed).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_envelopes_documents_become_the_only_seed() {
        let (_root, places) = node();
        hand_over(&places, &[b"sealed"]);
        seed(&places).unwrap();
        let user_data = fs::read_to_string(places.seed().join("user-data")).unwrap();
        assert!(user_data.contains("Content-Type: text/x-bootkeep-sealed"));
        let vendor_data = fs::read_to_string(places.seed().join("vendor-data")).unwrap();
        assert_eq!(vendor_data, "");
        let config = fs::read_to_string(places.cloud_run.join("cloud.cfg")).unwrap();
        assert!(
            config.contains("\"datasource_list\":[\"NoCloud\"]"),
            "{config}"
        );
        assert_eq!(mode(&places.seed()), 0o700);
        assert_eq!(mode(&places.seed().join("user-data")), 0o600);
        assert_eq!(mode(&places.memory().join("state")), 0o600);
        assert_eq!(
            fs::read(places.handlers.join("bootkeep_sealed.py")).unwrap(),
            b"guard"
        );
        assert!(!places.handover.directory().join(HANDED_OVER).exists());
        seed(&places).unwrap();
    }

    #[test]
    fn without_documents_cloud_init_is_left_to_its_configuration() {
        let (_root, places) = node();
        seed(&places).unwrap();
        assert!(!places.cloud_run.exists() && !places.seed().exists());
        assert!(State::load(&places).unwrap().unwrap().expected.is_empty());
    }

    #[test]
    fn several_documents_are_parts_of_one_message() {
        let text = user_data(&[Bytes(vec![1]), Bytes(vec![2])]);
        assert_eq!(text.matches("text/x-bootkeep-sealed").count(), 2);
        assert_eq!(text.matches("--bootkeep\n").count(), 2);
    }

    #[test]
    fn a_guard_that_does_not_load_stops_cloud_init() {
        let (_root, places) = node();
        python(&places, 1);
        assert!(matches!(seed(&places), Err(SeedError::Guard(_))));
        assert_eq!(
            places.handover.take_claims().unwrap()[0].code,
            "cloud-init-guard"
        );
        fs::remove_file(&places.guard).unwrap();
        assert!(matches!(seed(&places), Err(SeedError::Guard(_))));
    }

    #[test]
    fn configuration_on_the_command_line_stops_cloud_init_unless_allowed() {
        let (root, places) = node();
        fs::write(&places.cmdline, "ro cc: runcmd: [id]\n").unwrap();
        assert!(matches!(seed(&places), Err(SeedError::KernelConfig(_))));
        let claims = places.handover.take_claims().unwrap();
        assert_eq!(claims[0].code, "cloud-init-kernel-config");
        fs::create_dir_all(root.path().join("etc/bootkeep")).unwrap();
        fs::write(&places.config, "require_sealed: false\n").unwrap();
        seed(&places).unwrap();
    }

    #[test]
    fn a_hand_over_that_cannot_be_read_is_reported() {
        let (_root, places) = node();
        places.handover.prepare().unwrap();
        fs::write(places.handover.directory().join(HANDED_OVER), "{").unwrap();
        seed(&places).unwrap();
        let claims = places.handover.take_claims().unwrap();
        assert_eq!(claims[0].code, "cloud-init-handover");
    }

    #[test]
    fn links_made_before_are_not_followed() {
        let (root, places) = node();
        let elsewhere = root.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("file"), "untouched").unwrap();

        fs::create_dir_all(&places.handlers).unwrap();
        symlink(
            elsewhere.join("file"),
            places.handlers.join("bootkeep_sealed.py"),
        )
        .unwrap();
        hand_over(&places, &[b"sealed"]);
        seed(&places).unwrap();
        assert_eq!(fs::read(elsewhere.join("file")).unwrap(), b"untouched");

        let places_that_may_be_links: [fn(&Places) -> PathBuf; 4] = [
            |places| places.handlers.clone(),
            Places::memory,
            Places::seed,
            |places| places.handover.directory().into(),
        ];
        for (index, place) in places_that_may_be_links.iter().enumerate() {
            let (_root, places) = node();
            let place = place(&places);
            if place != *places.handover.directory() {
                hand_over(&places, &[b"sealed"]);
            }
            symlink(&elsewhere, &place).unwrap();
            assert!(seed(&places).is_err(), "place {index}");
        }
    }
}
