//! The hand-over's files get to their places whole, with owner and mode, and nobody can lead them elsewhere.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{chown, symlink, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use bootkeep_handover::{ForAgent, HandedFile, Handover};
use bootkeep_protocol::link::Claim;
use bootkeep_runtime_agent::place::{place, run, FileError, PlaceError};
use nix::unistd::{geteuid, Gid, Group, Uid, User};

struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = Self { folder };
        for made in ["root", "outside"] {
            fs::create_dir(machine.path(made)).unwrap();
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn handover(&self) -> Handover {
        let handover = Handover::at(&self.path("handover"));
        handover.prepare().unwrap();
        handover
    }

    fn make(&self, name: &str) -> PathBuf {
        let path = self.root().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

fn me() -> (String, String) {
    let user = User::from_uid(geteuid()).unwrap().unwrap();
    let group = Group::from_gid(Gid::current()).unwrap().unwrap();
    (user.name, group.name)
}

fn file(path: &str, mode: u32) -> HandedFile {
    let (owner, group) = me();
    HandedFile {
        path: path.into(),
        mode,
        owner,
        group,
        contents: b"secret".as_slice().into(),
    }
}

fn is_placed(path: &Path) -> bool {
    fs::read(path).is_ok_and(|found| found == b"secret")
}

/// No temporary file is left in the folder.
fn is_clean(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().all(|entry| {
        !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(".bootkeep")
    })
}

#[test]
fn files_get_their_mode_and_missing_folders_are_made() {
    let machine = Machine::new();
    // As in the unit: it must not close the folders to the files' owners.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    for (path, mode) in [
        ("/token", 0o600),
        ("/etc/app/deep/key.pem", 0o640),
        ("//etc//double", 0o644),
        ("/usr/bin/tool", 0o4755),
    ] {
        place(&machine.root(), &file(path, mode)).unwrap();
        let target = machine.root().join(path.trim_start_matches('/'));
        assert!(is_placed(&target), "{path}");
        assert_eq!(
            fs::metadata(&target).unwrap().mode() & 0o7777,
            mode,
            "{path}"
        );
    }
    let folder = fs::metadata(machine.root().join("etc/app/deep")).unwrap();
    assert_eq!(folder.mode() & 0o7777, 0o755);
    assert!(is_clean(&machine.root()));
}

#[test]
fn bad_paths_modes_and_owners_are_refused() {
    let machine = Machine::new();
    for path in [
        "etc/x",
        "/etc/../x",
        "/",
        "/x/",
        "",
        "/a/./b",
        "/a\0b",
        "/..",
        "x",
    ] {
        let refused = place(&machine.root(), &file(path, 0o600));
        assert!(
            matches!(refused, Err(FileError::Path)),
            "{path:?}: {refused:?}"
        );
    }
    let refused = place(&machine.root(), &file("/x", 0o10_000));
    assert!(matches!(refused, Err(FileError::Mode(_))));
    let nobody = |owner: &str, group: &str| {
        let (me, mine) = me();
        let owner = if owner.is_empty() { me } else { owner.into() };
        let group = if group.is_empty() { mine } else { group.into() };
        let handed = HandedFile {
            owner,
            group,
            ..file("/x", 0o600)
        };
        place(&machine.root(), &handed)
    };
    assert!(matches!(
        nobody("no-such-user", ""),
        Err(FileError::User(_))
    ));
    assert!(matches!(
        nobody("", "no-such-group"),
        Err(FileError::Group(_))
    ));
    assert_eq!(fs::read_dir(machine.root()).unwrap().count(), 0);
}

#[test]
fn a_link_at_the_place_is_replaced_and_its_target_left_alone() {
    let machine = Machine::new();
    let target = machine.path("outside/victim");
    fs::write(&target, "untouched").unwrap();
    symlink(&target, machine.root().join("key")).unwrap();
    place(&machine.root(), &file("/key", 0o600)).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
    let placed = machine.root().join("key");
    assert!(!placed.is_symlink() && is_placed(&placed));
}

#[test]
fn links_of_the_system_are_followed_and_stay_under_the_root() {
    let machine = Machine::new();
    machine.make("usr/lib");
    machine.make("etc");
    symlink("usr/lib", machine.root().join("lib")).unwrap();
    symlink("/usr/lib", machine.root().join("absolute")).unwrap();
    symlink("../../../../usr/lib", machine.root().join("etc/up")).unwrap();
    for (path, name) in [("/lib/a", "a"), ("/absolute/b", "b"), ("/etc/up/c", "c")] {
        place(&machine.root(), &file(path, 0o600)).unwrap();
        assert!(
            is_placed(&machine.root().join("usr/lib").join(name)),
            "{path}"
        );
    }
}

#[test]
fn links_that_others_could_have_made_are_not_followed() {
    let machine = Machine::new();
    let shared = machine.make("shared");
    symlink(machine.path("outside"), shared.join("way")).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let round = machine.make("round");
    symlink("a", round.join("b")).unwrap();
    symlink("b", round.join("a")).unwrap();
    let mut ways = vec!["/shared/way/x", "/round/a/x"];
    // Only root can give a folder or a link to another user.
    if geteuid().is_root() {
        let home = machine.make("home/eve");
        symlink(machine.path("outside"), home.join("way")).unwrap();
        chown(&home, Some(1000), Some(1000)).unwrap();
        symlink(machine.path("outside"), machine.root().join("theirs")).unwrap();
        let theirs = machine.root().join("theirs");
        std::os::unix::fs::lchown(theirs, Some(Uid::from_raw(1000).as_raw()), None).unwrap();
        ways.extend(["/home/eve/way/x", "/theirs/x"]);
    }
    for way in ways {
        let refused = place(&machine.root(), &file(way, 0o600));
        assert!(
            matches!(refused, Err(FileError::Link(_))),
            "{way}: {refused:?}"
        );
    }
    assert_eq!(fs::read_dir(machine.path("outside")).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_placed_leaves_what_was_there() {
    let machine = Machine::new();
    let etc = machine.make("etc/taken");
    fs::write(etc.join("inside"), "x").unwrap();
    fs::write(machine.root().join("file"), "a file").unwrap();
    for path in ["/etc/taken", "/file/x"] {
        assert!(
            place(&machine.root(), &file(path, 0o600)).is_err(),
            "{path}"
        );
    }
    assert_eq!(
        fs::read_to_string(machine.root().join("file")).unwrap(),
        "a file"
    );
    assert!(is_clean(&machine.root().join("etc")));
}

#[test]
fn the_hand_over_is_taken_once_and_a_failure_is_loud() {
    let machine = Machine::new();
    let handover = machine.handover();
    let clock = Claim {
        code: "clock-unsafe".into(),
        detail: "an unclean power-off".into(),
    };
    let handed = ForAgent {
        files: vec![file("/../bad", 0o600), file("/etc/good", 0o600)],
        claims: vec![clock],
    };
    handover.write("agent.json", &handed).unwrap();
    let placed = run(&handover, &machine.root());
    assert!(
        matches!(placed, Err(PlaceError::Files { failed: 1, all: 2 })),
        "{placed:?}"
    );
    assert!(is_placed(&machine.root().join("etc/good")));
    let mut codes: Vec<String> = handover
        .take_claims()
        .unwrap()
        .into_iter()
        .map(|claim| claim.code)
        .collect();
    codes.sort();
    assert_eq!(codes, ["clock-unsafe", "file-not-placed"]);
    assert!(!handover.directory().join("agent.json").exists());
    run(&handover, &machine.root()).unwrap();
    assert!(handover.take_claims().unwrap().is_empty());
}

#[test]
fn a_broken_hand_over_and_a_squatted_folder_are_refused() {
    let machine = Machine::new();
    let handover = machine.handover();
    fs::write(handover.directory().join("agent.json"), "{").unwrap();
    let refused = run(&handover, &machine.root());
    assert!(matches!(refused, Err(PlaceError::Unreadable(_))));
    assert_eq!(
        handover.take_claims().unwrap()[0].code,
        "handover-unreadable"
    );
    fs::set_permissions(handover.directory(), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = run(&handover, &machine.root());
    assert!(matches!(refused, Err(PlaceError::Folder(_))));
}
