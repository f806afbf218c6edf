//! Runtime policies from images and packages that the distribution's own tools made.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{bootkeep, file, json};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

fn sh(folder: &Path, script: &str) {
    let done = Command::new("sh")
        .args(["-e", "-c", script])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn hex_of(content: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(content))
}

/// Runs `policy create runtime` and gives exit code, answer and the policy.
fn create(folder: &TempDir, name: &str, arguments: &[&str]) -> (i32, Value, Value) {
    let out = folder.path().join(name);
    let arguments = [
        &["policy", "create", "runtime"],
        arguments,
        &["-o", out.to_str().unwrap()],
    ]
    .concat();
    let (code, answer) = json(folder.path(), &arguments);
    let policy = fs::read(&out).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap());
    (code, answer, policy)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A tree with a program, a hard link to it, an empty file and a symbolic link.
fn tree(folder: &Path) {
    sh(
        folder,
        "mkdir -p tree/usr/bin tree/etc; echo program > tree/usr/bin/a; ln tree/usr/bin/a tree/usr/bin/b; \
         : > tree/etc/empty; ln -s a tree/usr/bin/c; echo sp > 'tree/etc/a b'; \
         mkdir -p early/kernel/x86/microcode; echo code > early/kernel/x86/microcode/Intel.bin",
    );
}

fn assert_tree(files: &Value, name: &str) {
    let program = hex_of("program\n");
    for (path, digest) in [
        ("/usr/bin/a", &program),
        ("/usr/bin/b", &program),
        ("/etc/empty", &hex_of("")),
        ("/etc/a_b", &hex_of("sp\n")),
    ] {
        assert_eq!(files[path], **digest, "{name}: {path}");
    }
    assert!(
        files.get("/usr/bin/c").is_none(),
        "{name}: a link is no file"
    );
}

#[test]
fn an_image_is_read_however_it_is_packed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    tree(at);
    sh(
        at,
        "(cd tree && find . | sort | cpio -o -H newc --quiet) > main.cpio; \
         (cd early && find . | cpio -o -H newc --quiet) > early.cpio; \
         cat early.cpio main.cpio > plain.img; \
         (cat early.cpio; head -c 512 /dev/zero; gzip -c main.cpio) > gzip.img; \
         (cat early.cpio; zstd -q -c main.cpio) > zstd.img; \
         (cat early.cpio; xz --check=crc32 --lzma2=dict=1MiB -c main.cpio) > xz.img; \
         (cat early.cpio; lz4 -q -l -c main.cpio) > lz4.img; \
         (gzip -c early.cpio; xz --check=crc32 -c main.cpio; head -c 511 /dev/zero) > two.img; \
         (gzip -c main.cpio; head -c 100 /dev/zero; cat early.cpio) > late.img",
    );
    for name in ["plain", "gzip", "zstd", "xz", "lz4", "two", "late"] {
        let image = at.join(format!("{name}.img"));
        let out = format!("{name}.json");
        let (code, answer, policy) = create(&folder, &out, &["--initramfs", text(&image)]);
        assert_eq!(code, 0, "{name}: {answer}");
        assert_tree(&policy["files"], name);
        assert_eq!(
            policy["files"]["/kernel/x86/microcode/Intel.bin"],
            *hex_of("code\n"),
            "{name}"
        );
        assert_eq!(policy["also_under"][0], "/sysroot", "{name}");
    }
}

#[test]
fn a_damaged_image_makes_no_policy() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    tree(at);
    sh(
        at,
        "(cd tree && find . | cpio -o -H newc --quiet) > main.cpio; gzip -c main.cpio > whole; \
         head -c 400 main.cpio > short; head -c 150 whole > short.gz; head -c 2048 /dev/zero > zeros; : > empty; \
         echo text > text; (cat main.cpio; echo more) > more; bzip2 -c main.cpio > packed.bz2 || cp text packed.bz2",
    );
    for name in [
        "short",
        "short.gz",
        "zeros",
        "empty",
        "text",
        "more",
        "packed.bz2",
    ] {
        let (code, answer, policy) =
            create(&folder, "out.json", &["--initramfs", text(&at.join(name))]);
        assert_eq!(code, 2, "{name}: {answer}");
        assert!(
            answer["detail"].as_str().unwrap().contains(name),
            "{name}: {answer}"
        );
        assert_eq!(policy, Value::Null, "{name}: a policy was written");
    }
}

/// A mirror with one suite and two packages, made by dpkg-deb.
fn mirror(folder: &Path, packing: &str) -> PathBuf {
    let script = format!(
        "for v in 1.0 2.0; do \
           mkdir -p p/DEBIAN p/usr/bin p/lib/app; echo tool $v > p/usr/bin/tool; ln -f p/usr/bin/tool p/usr/bin/alias; \
           echo lib > p/lib/app/lib.so; ln -sf tool p/usr/bin/sym; \
           printf 'Package: tool\\nVersion: %s\\nArchitecture: all\\nMaintainer: a <a@b>\\nDescription: d\\n' $v > p/DEBIAN/control; \
           for s in preinst postinst; do printf '#!/bin/sh\n# '$s'\n' > p/DEBIAN/$s; chmod 755 p/DEBIAN/$s; done; \
           mkdir -p mirror/pool/t; dpkg-deb -b -Z{packing} --root-owner-group p mirror/pool/t/tool_${{v}}_all.deb > log; done; \
         d=mirror/dists/stable/main/binary-all; mkdir -p $d; \
         for f in mirror/pool/t/*.deb; do dpkg-deb -f $f; \
           printf 'Filename: %s\\nSize: 1\\nSHA256: %s\\n\\n' ${{f#mirror/}} $(sha256sum < $f | cut -d' ' -f1); done > $d/Packages; \
         xz -k $d/Packages; \
         (echo 'Suite: stable'; echo 'SHA256:'; \
          for n in Packages Packages.xz; do echo \" $(sha256sum < $d/$n | cut -d' ' -f1) 1 main/binary-all/$n\"; done) \
           > mirror/dists/stable/Release"
    );
    sh(folder, &script);
    folder.join("mirror")
}

#[test]
fn a_repository_of_debian_packages_becomes_a_policy_that_knows_the_owners() {
    for packing in ["gzip", "xz", "zstd"] {
        let folder = tempfile::tempdir().unwrap();
        let mirror = mirror(folder.path(), packing);
        let release = mirror.join("dists/stable/Release");
        let both = ["--apt", text(&mirror), "--release", text(&release)];
        let (code, answer, policy) = create(&folder, "all.json", &both);
        assert_eq!(code, 0, "{packing}: {answer}");
        let files = &policy["files"];
        let (old, new) = (hex_of("tool 1.0\n"), hex_of("tool 2.0\n"));
        for path in ["/usr/bin/tool", "/usr/bin/alias"] {
            let mut digests = vec![old.clone(), new.clone()];
            digests.sort();
            assert_eq!(files[path], serde_json::json!(digests), "{packing} {path}");
        }
        for path in ["/lib/app/lib.so", "/usr/lib/app/lib.so"] {
            assert_eq!(files[path], *hex_of("lib\n"), "{packing} {path}");
        }
        assert!(files.get("/usr/bin/sym").is_none());
        // What dpkg runs when the package is installed on a node that is attested.
        for (path, script) in [
            ("/var/lib/dpkg/info/tool.postinst", "postinst"),
            ("/var/lib/dpkg/info/tool.preinst", "preinst"),
            ("/var/lib/dpkg/tmp.ci/preinst", "preinst"),
        ] {
            let text = format!("#!/bin/sh\n# {script}\n");
            assert_eq!(files[path], *hex_of(&text), "{packing} {path}");
        }
        let index: Value =
            serde_json::from_slice(&fs::read(folder.path().join("all.packages.json")).unwrap())
                .unwrap();
        assert_eq!(index["packages"].as_array().unwrap().len(), 2);
        assert_eq!(index["packages"][1]["version"], "2.0");

        let packages = mirror.join("dists/stable/main/binary-all/Packages.xz");
        let one = ["--apt", text(&packages), "--package", "tool=2.0"];
        let (code, answer, policy) = create(&folder, "one.json", &one);
        assert_eq!(code, 0, "{packing}: {answer}");
        assert_eq!(policy["files"]["/usr/bin/tool"], *new, "{packing}");
    }
}

#[test]
fn a_repository_that_was_tampered_with_makes_no_policy() {
    let tampered: [(&str, &str, i32); 5] = [
        ("a package", "printf x >> mirror/pool/t/tool_2.0_all.deb", 4),
        ("the index", "echo >> mirror/dists/stable/main/binary-all/Packages; rm mirror/dists/stable/main/binary-all/Packages.xz", 4),
        ("no digests", "echo 'Suite: x' > mirror/dists/stable/Release", 2),
        (
            "a path that leaves",
            "d=mirror/dists/stable/main/binary-all; sed -i 's|pool/t|../pool/t|' $d/Packages; rm $d/Packages.xz; \
             echo \"SHA256:\n $(sha256sum < $d/Packages | cut -d' ' -f1) 1 Packages\" > mirror/dists/stable/Release",
            2,
        ),
        ("a package that is not there", "rm mirror/pool/t/tool_2.0_all.deb", 3),
    ];
    for (name, script, expected) in tampered {
        let folder = tempfile::tempdir().unwrap();
        let mirror = mirror(folder.path(), "gzip");
        sh(folder.path(), script);
        let release = mirror.join("dists/stable/Release");
        let arguments = [
            "--apt",
            text(&mirror),
            "--release",
            text(&release),
            "--package",
            "tool=2.0",
        ];
        let (code, answer, policy) = create(&folder, "out.json", &arguments);
        assert_eq!(code, expected, "{name}: {answer}");
        assert_eq!(policy, Value::Null, "{name}: a policy was written");
    }
}

#[test]
fn a_release_needs_the_signature_of_a_key_of_the_keyring() {
    let folder = tempfile::tempdir().unwrap();
    let mirror = mirror(folder.path(), "gzip");
    sh(
        folder.path(),
        "export GNUPGHOME=$PWD/g; mkdir -m 700 g; \
         for k in good other; do gpg -q --batch --passphrase '' --quick-gen-key $k@example ed25519 sign never; \
           gpg -q --export $k@example > $k.gpg; done; \
         gpg -q --batch -u good@example --clearsign -o mirror/dists/stable/InRelease mirror/dists/stable/Release; \
         gpgconf --kill all",
    );
    let signed = mirror.join("dists/stable/InRelease");
    for (keyring, expected) in [("good.gpg", 0), ("other.gpg", 4)] {
        let keyring = folder.path().join(keyring);
        let arguments = [
            "--apt",
            text(&mirror),
            "--release",
            text(&signed),
            "--keyring",
            text(&keyring),
        ];
        let (code, answer, _) = create(&folder, &format!("{expected}.json"), &arguments);
        assert_eq!(code, expected, "{answer}");
    }
    // What was added outside of the signature does not count.
    let release = fs::read_to_string(&signed).unwrap();
    file(
        folder.path(),
        "mirror/dists/stable/InRelease",
        format!("SHA256:\n{release}")
            .replace("Suite: stable", "Suite: other")
            .as_bytes(),
    );
    let keyring = folder.path().join("good.gpg");
    let arguments = [
        "--apt",
        text(&mirror),
        "--release",
        text(&signed),
        "--keyring",
        text(&keyring),
    ];
    let (code, _, _) = create(&folder, "changed.json", &arguments);
    assert_eq!(code, 4);
}

/// A repository of one package made by rpmbuild.
fn rpm_repository(folder: &Path) -> PathBuf {
    sh(
        folder,
        "cat > a.spec <<'E'\nName: tool\nVersion: 1.0\nRelease: 1\nSummary: s\nLicense: MIT\nBuildArch: noarch\n\
         %description\nd\n%install\nmkdir -p %{buildroot}/usr/bin\necho tool > %{buildroot}/usr/bin/tool\n\
         ln -s tool %{buildroot}/usr/bin/sym\n%files\n/usr/bin/tool\n/usr/bin/sym\n%ghost /var/log/tool.log\nE\n\
         rpmbuild -bb --quiet --define \"_topdir $PWD/build\" --define '_source_filedigest_algorithm 8' \
           --define '_binary_filedigest_algorithm 8' --define '__os_install_post %{nil}' a.spec; \
         mkdir -p repo/repodata; cp build/RPMS/noarch/tool-1.0-1.noarch.rpm repo/; \
         s=$(sha256sum < repo/tool-1.0-1.noarch.rpm | cut -d' ' -f1); \
         echo \"<metadata xmlns='http://linux.duke.edu/metadata/common' packages='1'><package type='rpm'><name>tool</name>\
         <arch>noarch</arch><version epoch='0' ver='1.0' rel='1'/><checksum type='sha256' pkgid='YES'>$s</checksum>\
         <location href='tool-1.0-1.noarch.rpm'/></package></metadata>\" | gzip > repo/repodata/primary.xml.gz; \
         p=$(sha256sum < repo/repodata/primary.xml.gz | cut -d' ' -f1); \
         echo \"<repomd><data type='filelists'><checksum type='sha256'>0</checksum><location href='x'/></data>\
         <data type='primary'><checksum type='sha256'>$p</checksum><open-checksum type='sha256'>00</open-checksum>\
         <location href='repodata/primary.xml.gz'/></data></repomd>\" > repo/repodata/repomd.xml",
    );
    folder.join("repo")
}

#[test]
fn a_repository_of_rpm_packages_becomes_a_policy() {
    let folder = tempfile::tempdir().unwrap();
    let repository = rpm_repository(folder.path());
    let (code, answer, policy) = create(&folder, "rpm.json", &["--rpm", text(&repository)]);
    assert_eq!(code, 0, "{answer}");
    let files = policy["files"].as_object().unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(files["/usr/bin/tool"], *hex_of("tool\n"));
    let index: Value =
        serde_json::from_slice(&fs::read(folder.path().join("rpm.packages.json")).unwrap())
            .unwrap();
    assert_eq!(index["packages"][0]["version"], "1.0-1");

    for (name, script, expected) in [
        ("a package", "printf x >> repo/tool-1.0-1.noarch.rpm", 4),
        ("the list", "printf x >> repo/repodata/primary.xml.gz", 4),
        (
            "a path that leaves",
            "sed -i 's|repodata/primary|../repo/repodata/primary|' repo/repodata/repomd.xml",
            2,
        ),
    ] {
        sh(folder.path(), &format!("cp -r repo keep; {script}"));
        let (code, answer, _) = create(&folder, "bad.json", &["--rpm", text(&repository)]);
        assert_eq!(code, expected, "{name}: {answer}");
        sh(folder.path(), "rm -r repo; mv keep repo");
    }
}

#[test]
fn a_root_file_system_names_its_owners() {
    let folder = tempfile::tempdir().unwrap();
    sh(
        folder.path(),
        "mkdir -p root/usr/bin root/var/lib/dpkg/info; echo a > root/usr/bin/a; \
         printf 'Package: a\\nVersion: 1\\nArchitecture: amd64\\n\\n' > root/var/lib/dpkg/status; \
         printf '/.\\n/bin\\n/bin/a\\n' > root/var/lib/dpkg/info/a:amd64.list",
    );
    let root = folder.path().join("root");
    let out = folder.path().join("root.json");
    let made = bootkeep(
        folder.path(),
        &[
            "policy",
            "create",
            "runtime",
            "--rootfs",
            text(&root),
            "-o",
            text(&out),
        ],
    );
    assert!(made.status.success());
    let index: Value =
        serde_json::from_slice(&fs::read(folder.path().join("root.packages.json")).unwrap())
            .unwrap();
    assert_eq!(index["files"]["/usr/bin/a"], serde_json::json!([0]));
}
