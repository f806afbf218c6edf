//! The owner's actions: what is taken, and what of a hostile folder is not.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{chown, symlink, PermissionsExt},
    path::{Path, PathBuf},
};

use bootkeep_runtime_agent::enforce::actions::{load, On};

const GOOD: &str = "on: revoke\nremove: /var/lib/app/key\n";

struct Folder {
    parent: tempfile::TempDir,
    actions: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let actions = parent.path().join("actions.d");
        fs::create_dir(&actions).unwrap();
        Self { parent, actions }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        write(&self.actions.join(name), text, 0o644)
    }
}

fn write(path: &Path, text: &str, mode: u32) -> PathBuf {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    path.into()
}

/// Names of what is taken, and what is refused with its reason.
fn loaded(folder: &Path) -> (Vec<String>, String) {
    let (good, refused) = load(folder);
    let names = good.into_iter().map(|(name, _)| name).collect();
    let reasons: Vec<String> = refused
        .into_iter()
        .map(|r| format!("{}: {}", r.name, r.problem))
        .collect();
    (names, reasons.join("\n"))
}

#[test]
fn files_are_taken_in_the_order_of_their_names() {
    let folder = Folder::new();
    for name in ["20-b.yaml", "10-a.yaml", "README", "30.yaml.bak"] {
        folder.write(name, GOOD);
    }
    assert_eq!(
        loaded(&folder.actions),
        (vec!["10-a.yaml".into(), "20-b.yaml".into()], String::new())
    );
    let (actions, _) = load(&folder.actions);
    assert_eq!(actions[0].1.on, On::Revoke);
}

#[test]
fn without_a_folder_there_are_none() {
    let folder = Folder::new();
    let missing = folder.parent.path().join("missing");
    assert_eq!(loaded(&missing), (vec![], String::new()));
}

type Spoil = fn(&Folder);

#[test]
fn a_hostile_file_is_refused_by_name_and_the_others_are_taken() {
    let cases: [(&str, Spoil, &str); 9] = [
        (
            "writable by others",
            |f| drop(write(&f.actions.join("5.yaml"), GOOD, 0o666)),
            "written by others",
        ),
        (
            "writable by a group",
            |f| drop(write(&f.actions.join("5.yaml"), GOOD, 0o664)),
            "written by others",
        ),
        (
            "another user's",
            |f| chown(f.write("5.yaml", GOOD), Some(65534), None).unwrap(),
            "user 65534",
        ),
        (
            "a link",
            |f| {
                symlink(
                    write(&f.parent.path().join("x"), GOOD, 0o644),
                    f.actions.join("5.yaml"),
                )
                .unwrap()
            },
            "symbolic link",
        ),
        (
            "a folder",
            |f| fs::create_dir(f.actions.join("5.yaml")).unwrap(),
            "not a file",
        ),
        (
            "a pipe that nobody writes to",
            |f| {
                nix::unistd::mkfifo(
                    &f.actions.join("5.yaml"),
                    nix::sys::stat::Mode::from_bits_truncate(0o644),
                )
                .unwrap()
            },
            "not a file",
        ),
        (
            "huge",
            |f| drop(f.write("5.yaml", &"# ".repeat(20_000))),
            "larger than",
        ),
        ("no YAML", |f| drop(f.write("5.yaml", "{")), "5.yaml"),
        (
            "no text",
            |f| fs::write(f.actions.join("5.yaml"), [0xff; 9]).unwrap(),
            "5.yaml",
        ),
    ];
    for (name, spoil, reason) in cases {
        let folder = Folder::new();
        folder.write("9-good.yaml", GOOD);
        spoil(&folder);
        let (good, refused) = loaded(&folder.actions);
        assert_eq!(good, ["9-good.yaml"], "{name}");
        assert!(
            refused.starts_with("5.yaml: ") && refused.contains(reason),
            "{name}: {refused}"
        );
    }
}

#[test]
fn a_folder_that_others_can_change_gives_nothing() {
    let cases: [(&str, Spoil, &str); 3] = [
        ("itself", |f| mode(&f.actions, 0o777), "written by others"),
        (
            "its parent",
            |f| mode(f.parent.path(), 0o777),
            "written by others",
        ),
        (
            "its parent's owner",
            |f| chown(f.parent.path(), Some(65534), None).unwrap(),
            "user 65534",
        ),
    ];
    for (name, spoil, reason) in cases {
        let folder = Folder::new();
        folder.write("1.yaml", GOOD);
        spoil(&folder);
        let (good, refused) = loaded(&folder.actions);
        assert!(
            good.is_empty() && refused.contains(reason),
            "{name}: {refused}"
        );
    }
    let folder = Folder::new();
    folder.write("1.yaml", GOOD);
    let link = folder.parent.path().join("link");
    symlink(&folder.actions, &link).unwrap();
    let (good, refused) = loaded(&link);
    assert!(
        good.is_empty() && refused.contains("symbolic link"),
        "{refused}"
    );
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_program_that_others_can_change_is_refused() {
    let cases: [(&str, Spoil, &str); 5] = [
        ("missing", |_| {}, "No such file"),
        (
            "writable by others",
            |f| drop(write(&f.parent.path().join("run"), "", 0o777)),
            "written by others",
        ),
        (
            "not executable",
            |f| drop(write(&f.parent.path().join("run"), "", 0o644)),
            "not a program",
        ),
        (
            "another user's link",
            |f| {
                let link = f.parent.path().join("run");
                symlink("/bin/true", &link).unwrap();
                std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
            },
            "user 65534",
        ),
        (
            "a link to what others can change",
            |f| {
                symlink(
                    write(&f.parent.path().join("real"), "", 0o777),
                    f.parent.path().join("run"),
                )
                .unwrap()
            },
            "written by others",
        ),
    ];
    for (name, spoil, reason) in cases {
        let folder = Folder::new();
        let program = folder.parent.path().join("run");
        folder.write(
            "1.yaml",
            &format!("on: revoke\ncommand: [{}]\n", program.display()),
        );
        spoil(&folder);
        let (good, refused) = loaded(&folder.actions);
        assert!(
            good.is_empty() && refused.contains(reason),
            "{name}: {refused}"
        );
    }
}

#[test]
fn a_flood_of_files_is_cut() {
    let folder = Folder::new();
    for n in 0..70 {
        folder.write(&format!("{n:03}.yaml"), GOOD);
    }
    let (good, refused) = loaded(&folder.actions);
    assert_eq!((good.len(), refused.lines().count()), (64, 6));
}
