//! Boot policies of version 2: good boots pass, each attack is refused with its own reason.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod boot_log;

use boot_log::{db_signatures, sha256, vendor_certificate, wide, Boot, COMMAND_LINE, SBAT};
use bootkeep_evidence::eventlog::{kind, EventLog, Guid, SignatureLists};
use bootkeep_policy::{BootPolicy, Live, PolicyError};

/// The corpus of the fuzzers, which `tpm2_eventlog` reads as well, holds these very boots.
#[test]
fn boots_made_by_code_are_in_the_corpus() {
    for (name, boot) in [
        ("made-shim-grub.bin", Boot::shim_grub()),
        ("made-uki.bin", Boot::uki()),
    ] {
        let path = format!(
            "{}/../../fuzz/corpus/event_log/{name}",
            env!("CARGO_MANIFEST_DIR")
        );
        if std::env::var_os("BOOTKEEP_WRITE_CORPUS").is_some() {
            std::fs::write(&path, boot.bytes()).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), boot.bytes(), "{name}");
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn policy(text: &str) -> BootPolicy {
    BootPolicy::from_yaml(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn digests(contents: &[u8]) -> Vec<String> {
    let lists = SignatureLists::parse(contents).unwrap();
    lists
        .entries()
        .iter()
        .map(|entry| hex(entry.digest))
        .collect()
}

/// What shim and GRUB of Debian need, written by hand.
fn shim_grub_policy() -> String {
    format!(
        r#"
version: 2
secure_boot: required
platform_key: {{ only: [{pk}] }}
key_exchange_keys: {{ only: [{kek}] }}
db: {{ only: [{db}] }}
dbx: {{ contains: [{dbx}] }}
sbat: {{ date: 2022052400, components: {{ grub: 2 }} }}
boot_stages:
  - name: shim
    any_of:
      - signer: {{ fingerprint: {uefi_ca} }}
  - name: grub
    any_of:
      - signer: {{ fingerprint: {vendor}, source: Shim }}
  - name: linux
    any_of:
      - signer: {{ fingerprint: {vendor}, source: Shim }}
firmware:
  - name: Example
    version: {{ regex: 'Example 1\.[0-9]+' }}
grub:
  commands:
    - {{ regex: 'search\.fs_uuid [0-9a-f-]+ root' }}
    - menuentry Debian
    - {{ regex: 'linux /vmlinuz-\S+ root=/dev/mapper/cryptroot ro ima_policy=tcb quiet' }}
    - {{ regex: 'initrd /initrd\.img-\S+' }}
  files:
    - path: /grub/grub.cfg
      digests: [{cfg}]
    - path: /vmlinuz-*
      digests: [{kernel}]
kernel_command_line:
  required: [root=/dev/mapper/cryptroot, ima_policy=tcb]
  allowed: [ro, quiet]
initrd:
  - {{ digest: {initrd}, note: initramfs of 6.1.0-50 }}
"#,
        pk = digests(boot_log::PK).join(", "),
        kek = digests(boot_log::KEK).join(", "),
        db = digests(boot_log::DB).join(", "),
        dbx = digests(boot_log::DBX).join(", "),
        uefi_ca = hex(sha256(&db_signatures()[1][16..])),
        vendor = hex(sha256(vendor_certificate())),
        cfg = hex(sha256(b"menuentry Debian {}")),
        kernel = hex(sha256(b"kernel 6.1.0-50")),
        initrd = hex(sha256(b"initramfs 50")),
    )
}

#[test]
fn a_good_boot_passes() {
    let policy = policy(&shim_grub_policy());
    let mut boot = Boot::shim_grub();
    boot.held_against(&policy).unwrap();
    boot.latched = true;
    boot.held_against(&policy).unwrap();
    assert_eq!(
        policy.warnings(),
        ["PCR 0 is left open: the firmware may be any (a version is its own word)"]
    );
    let again = BootPolicy::from_yaml(policy.to_yaml().unwrap().as_bytes()).unwrap();
    assert_eq!(again, policy);
    let again = BootPolicy::from_value(policy.to_value().unwrap()).unwrap();
    assert_eq!(again, policy);
}

/// Each change is one a machine could really boot with, or a log could tell; the code names the rule.
#[test]
fn every_attack_has_its_own_reason() {
    type Attack = (&'static str, fn(&mut Boot), &'static str);
    let attacks: &[Attack] = &[
        (
            "Secure Boot off",
            |boot| {
                let off = boot_log::variable(Guid::GLOBAL, "SecureBoot", &[0]);
                let event = boot.at("SecureBoot");
                (event.digest, event.data) = (sha256(&off), off);
            },
            "boot.secure_boot.off",
        ),
        (
            "a second SecureBoot variable",
            |boot| {
                boot.before("PK", |boot| {
                    boot.variable(Guid::GLOBAL, "SecureBoot", &[1]);
                });
            },
            "boot.secure_boot.twice",
        ),
        (
            "SecureBoot after the separator",
            |boot| {
                let at = boot.find("SecureBoot");
                boot.events.remove(at);
                boot.variable(Guid::GLOBAL, "SecureBoot", &[1]);
            },
            "boot.secure_boot.after_separator",
        ),
        (
            "no SecureBoot variable at all",
            |boot| {
                let at = boot.find("SecureBoot");
                boot.events.remove(at);
            },
            "boot.secure_boot.missing",
        ),
        (
            "shim does not verify",
            |boot| {
                boot.before("Shim", |boot| {
                    boot.authority(Guid::SHIM, "MokSBState", &[1]);
                });
            },
            "boot.secure_boot.shim_validation",
        ),
        (
            "another platform key",
            |boot| {
                let other = boot_log::variable(Guid::GLOBAL, "PK", boot_log::DB);
                let at = boot.find("SecureBoot") + 1;
                (boot.events[at].digest, boot.events[at].data) = (sha256(&other), other);
            },
            "boot.platform_key.unlisted",
        ),
        (
            "one more key in db",
            |boot| {
                let more = [boot_log::DB, boot_log::PK].concat();
                let more = boot_log::variable(Guid::SECURITY_DATABASE, "db", &more);
                let at = boot.find("SecureBoot") + 3;
                (boot.events[at].digest, boot.events[at].data) = (sha256(&more), more);
            },
            "boot.db.unlisted",
        ),
        (
            "an empty dbx",
            |boot| {
                let none = boot_log::variable(Guid::SECURITY_DATABASE, "dbx", b"");
                let at = boot.find("SecureBoot") + 4;
                (boot.events[at].digest, boot.events[at].data) = (sha256(&none), none);
            },
            "boot.dbx.missing",
        ),
        (
            "db that is no list",
            |boot| {
                let cut = boot_log::variable(Guid::SECURITY_DATABASE, "db", &boot_log::DB[..100]);
                let at = boot.find("SecureBoot") + 3;
                (boot.events[at].digest, boot.events[at].data) = (sha256(&cut), cut);
            },
            "boot.event.malformed",
        ),
        (
            "an old SbatLevel",
            |boot| {
                let old = boot_log::variable(
                    Guid::SHIM,
                    "SbatLevel",
                    b"sbat,1,2021030218\nshim,1\ngrub,1\n",
                );
                let event = boot.at("SbatLevel");
                (event.digest, event.data) = (sha256(&old), old);
            },
            "boot.sbat.old",
        ),
        (
            "an old date with new generations",
            |boot| {
                let level = b"sbat,1,2021030218\nshim,2\ngrub,2\n";
                let old = boot_log::variable(Guid::SHIM, "SbatLevel", level);
                let event = boot.at("SbatLevel");
                (event.digest, event.data) = (sha256(&old), old);
            },
            "boot.sbat.old",
        ),
        (
            "init= inside the quotes of another parameter, as a script parts it",
            |boot| {
                let line = format!("{COMMAND_LINE} dyndbg=\"x init=/bin/sh\"");
                boot.grub("kernel_cmdline", &line);
            },
            "boot.kernel_command_line.forbidden",
        ),
        (
            "an old generation of GRUB under a new date",
            |boot| {
                let old = boot_log::variable(
                    Guid::SHIM,
                    "SbatLevel",
                    b"sbat,1,2023012900\nshim,2\ngrub,1\n",
                );
                let event = boot.at("SbatLevel");
                (event.digest, event.data) = (sha256(&old), old);
            },
            "boot.sbat.old",
        ),
        (
            "no SbatLevel",
            |boot| {
                let at = boot.find("SbatLevel");
                boot.events.remove(at);
            },
            "boot.sbat.missing",
        ),
        (
            "an image signed by somebody else in db",
            |boot| {
                let other = boot_log::variable(Guid::SECURITY_DATABASE, "db", db_signatures()[0]);
                boot.covered(7, kind::EV_EFI_VARIABLE_AUTHORITY, &other);
            },
            "boot.stages.signer",
        ),
        (
            "a boot loader of a key that a person enrolled",
            |boot| {
                boot.authority(Guid::SHIM, "MokList", db_signatures()[0]);
            },
            "boot.stages.signer",
        ),
        (
            "one image more",
            |boot| {
                boot.started(b"tool", "\\EFI\\tool.efi");
            },
            "boot.stages.extra",
        ),
        (
            "the kernel never started",
            |boot| {
                let at = boot.find("vmlinuz\0");
                let at = boot.events[at..]
                    .iter()
                    .position(|event| event.pcr == 4)
                    .unwrap()
                    + at;
                boot.events.remove(at);
            },
            "boot.stages.missing",
        ),
        (
            "an image before the firmware hands over",
            |boot| {
                let shim = boot.find("shimx64");
                let shim = boot.events.remove(shim);
                boot.events.insert(0, shim);
            },
            "boot.stages.before_separator",
        ),
        (
            "unknown firmware",
            |boot| {
                let other = wide("Example 2.0\0");
                (boot.events[0].digest, boot.events[0].data) = (sha256(&other), other);
            },
            "boot.firmware.unknown",
        ),
        (
            "a command at GRUB's prompt",
            |boot| {
                boot.before("kernel_cmdline", |boot| {
                    boot.grub("grub_cmd", "chainloader /x");
                });
            },
            "boot.grub.command",
        ),
        (
            "another grub.cfg",
            |boot| {
                boot.at("grub.cfg").digest = sha256(b"menuentry Evil {}");
            },
            "boot.grub.file",
        ),
        (
            "a file under a name no rule has",
            |boot| {
                boot.grub_file("/boot/evil", b"evil");
            },
            "boot.unlisted",
        ),
        (
            "another initramfs",
            |boot| {
                boot.at("Linux initrd").digest = sha256(b"initramfs of an attacker");
            },
            "boot.initrd.unlisted",
        ),
        (
            "init= on the command line",
            |boot| {
                let at = boot.find("kernel_cmdline");
                boot.events.remove(at);
                boot.grub("kernel_cmdline", &format!("{COMMAND_LINE} init=/bin/sh"));
            },
            "boot.kernel_command_line.forbidden",
        ),
        (
            "the same under the label of a command",
            |boot| {
                boot.grub("grub_cmd", &format!("{COMMAND_LINE} init=/bin/sh"));
            },
            "boot.kernel_command_line.forbidden",
        ),
        (
            "init= in quotes",
            |boot| {
                boot.grub(
                    "kernel_cmdline",
                    &format!("{COMMAND_LINE} \"init=/bin/sh\""),
                );
            },
            "boot.kernel_command_line.forbidden",
        ),
        (
            "rd.break",
            |boot| {
                boot.grub(
                    "kernel_cmdline",
                    &format!("{COMMAND_LINE} rd.break=pre-mount"),
                );
            },
            "boot.kernel_command_line.forbidden",
        ),
        (
            "systemd.debug-shell",
            |boot| {
                boot.grub(
                    "kernel_cmdline",
                    &format!("{COMMAND_LINE} systemd.debug_shell=1"),
                );
            },
            "boot.kernel_command_line.forbidden",
        ),
        (
            "emergency mode",
            |boot| {
                boot.grub("kernel_cmdline", &format!("{COMMAND_LINE} emergency"));
            },
            "boot.kernel_command_line.forbidden",
        ),
        (
            "a parameter that is not listed",
            |boot| {
                boot.grub("kernel_cmdline", &format!("{COMMAND_LINE} lockdown=none"));
            },
            "boot.kernel_command_line.allowed",
        ),
        (
            "another root",
            |boot| {
                boot.grub(
                    "kernel_cmdline",
                    "/vmlinuz root=/dev/sdb1 ro ima_policy=tcb",
                );
            },
            "boot.kernel_command_line.required",
        ),
        (
            "two roots, the last counts",
            |boot| {
                boot.grub("kernel_cmdline", &format!("{COMMAND_LINE} root=/dev/sdb1"));
            },
            "boot.kernel_command_line.required",
        ),
        (
            "a line break in the command line",
            |boot| {
                boot.grub("kernel_cmdline", &format!("{COMMAND_LINE}\nro"));
            },
            "boot.kernel_command_line.unreadable",
        ),
        (
            "a command line that is only a digest",
            |boot| {
                boot.event(
                    8,
                    kind::EV_IPL,
                    b"/vmlinuz init=/bin/sh",
                    b"kernel_cmdline: /vmlinuz ro\0",
                );
            },
            "boot.kernel_command_line.hidden",
        ),
        (
            "no command line",
            |boot| {
                boot.events.retain(|event| event.pcr != 8);
            },
            "boot.kernel_command_line.unknown",
        ),
        (
            "an error of the firmware",
            |boot| {
                let index = boot
                    .events
                    .iter()
                    .rposition(|event| event.kind == kind::EV_SEPARATOR)
                    .unwrap();
                (boot.events[index].digest, boot.events[index].data) =
                    (sha256(&[1, 0, 0, 0]), vec![1, 0, 0, 0]);
            },
            "boot.separator.error",
        ),
        (
            "a separator twice",
            |boot| {
                boot.covered(7, kind::EV_SEPARATOR, &[0; 4]);
            },
            "boot.separator.twice",
        ),
        (
            "a separator missing",
            |boot| {
                let index = boot
                    .events
                    .iter()
                    .position(|event| event.pcr == 7 && event.kind == kind::EV_SEPARATOR);
                boot.events.remove(index.unwrap());
            },
            "boot.separator.missing",
        ),
        (
            "an event of no known kind in PCR 7",
            |boot| {
                boot.covered(7, kind::EV_EFI_ACTION, b"UEFI Debug Mode");
            },
            "boot.unlisted",
        ),
    ];
    let policy = policy(&shim_grub_policy());
    for (name, change, code) in attacks {
        let mut boot = Boot::shim_grub();
        change(&mut boot);
        let refusal = boot.held_against(&policy).expect_err(name);
        assert!(refusal.has(code), "{name}: {refusal}");
    }
}

/// The PCRs are those of a bad boot, the log tells of a good one.
#[test]
fn a_log_that_lies_is_refused() {
    type Lie = (&'static str, fn(&mut Boot), &'static str);
    let off = || boot_log::variable(Guid::GLOBAL, "SecureBoot", &[0]);
    let bad = || {
        let mut boot = Boot::shim_grub();
        let event = boot.at("SecureBoot");
        (event.digest, event.data) = (sha256(&off()), off());
        boot.lie();
        boot
    };
    let on = boot_log::variable(Guid::GLOBAL, "SecureBoot", &[1]);
    assert_ne!(on, off());
    let lies: &[Lie] = &[
        (
            "the data of another state",
            |boot| {
                boot.at("SecureBoot").data = boot_log::variable(Guid::GLOBAL, "SecureBoot", &[1]);
            },
            "boot.event.not_covered",
        ),
        (
            "another type, so that the event says nothing",
            |boot| {
                boot.at("SecureBoot").kind = kind::EV_IPL;
            },
            "boot.event.retyped",
        ),
        (
            "another type and no data",
            |boot| {
                let event = boot.at("SecureBoot");
                (event.kind, event.data) = (kind::EV_IPL, Vec::new());
            },
            "boot.unlisted",
        ),
        (
            "another type and no data, the good state under EV_NO_ACTION",
            |boot| {
                let event = boot.at("SecureBoot");
                (event.kind, event.data) = (kind::EV_IPL, Vec::new());
                let good = boot_log::variable(Guid::GLOBAL, "SecureBoot", &[1]);
                boot.before("PK", |boot| {
                    boot.covered(7, kind::EV_NO_ACTION, &good);
                });
            },
            "boot.secure_boot.missing",
        ),
        (
            "EV_NO_ACTION hides it",
            |boot| {
                boot.at("SecureBoot").kind = kind::EV_NO_ACTION;
            },
            "boot.replay",
        ),
        (
            "left out",
            |boot| {
                let at = boot.find("SecureBoot");
                boot.events.remove(at);
            },
            "boot.replay",
        ),
        (
            "two events swapped",
            |boot| {
                let at = boot.find("SecureBoot");
                boot.events.swap(at, at + 1);
            },
            "boot.replay",
        ),
        (
            "the good state in place of the bad",
            |boot| {
                let good = boot_log::variable(Guid::GLOBAL, "SecureBoot", &[1]);
                let event = boot.at("SecureBoot");
                (event.digest, event.data) = (sha256(&good), good);
            },
            "boot.replay",
        ),
        (
            "a separator under another type",
            |boot| {
                let at = boot
                    .events
                    .iter()
                    .position(|event| event.pcr == 7 && event.kind == kind::EV_SEPARATOR);
                boot.events[at.unwrap()].kind = kind::EV_EFI_ACTION;
            },
            "boot.event.retyped",
        ),
        (
            "something else called a separator",
            |boot| {
                let event = boot.at("Calling EFI");
                event.kind = kind::EV_SEPARATOR;
            },
            "boot.event.not_covered",
        ),
    ];
    let policy = policy(&shim_grub_policy());
    for (name, change, code) in lies {
        let mut boot = bad();
        change(&mut boot);
        let refusal = boot.held_against(&policy).expect_err(name);
        assert!(refusal.has(code), "{name}: {refusal}");
    }
}

#[test]
fn reasons_name_event_pcr_and_rule() {
    let mut boot = Boot::shim_grub();
    boot.grub("kernel_cmdline", &format!("{COMMAND_LINE} init=/bin/sh"));
    let refusal = boot.held_against(&policy(&shim_grub_policy())).unwrap_err();
    let reason = refusal
        .reasons()
        .into_iter()
        .find(|reason| reason.code == "boot.kernel_command_line.forbidden");
    let detail = reason.unwrap().detail;
    let number = boot.events.len();
    assert!(
        detail.starts_with(&format!("event {number}, PCR 8, EV_IPL")),
        "{detail}"
    );
    assert!(
        detail.ends_with("rule kernel_command_line.forbidden"),
        "{detail}"
    );
}

#[test]
fn no_log_and_no_rules() {
    let boot = Boot::shim_grub();
    let rules = policy(&shim_grub_policy());
    let refusal = Live::from(&rules)
        .dry_run(&boot.pcrs(), None, None)
        .unwrap_err();
    assert!(refusal.has("boot.event_log.missing"), "{refusal}");
    let empty = policy("version: 2\n");
    assert!(empty.is_empty());
    let refusal = boot.held_against(&empty).unwrap_err();
    assert!(refusal.has("boot-policy-empty"), "{refusal}");
}

#[test]
fn values_and_events_as_in_version_1() {
    let boot = Boot::shim_grub();
    let pcrs = boot.pcrs();
    let log = boot.log();
    let events: Vec<String> = log
        .events()
        .iter()
        .filter(|event| event.pcr == 14)
        .map(|event| format!("{{ digest: {}, note: MokList }}", hex(event.digest)))
        .collect();
    let text = format!(
        "version: 2\npcrs: {{ 3: [{}] }}\nevents: {{ 14: [{}] }}\n",
        hex(pcrs.get(3).unwrap()),
        events.join(", ")
    );
    let rules = policy(&text);
    boot.held_against(&rules).unwrap();
    let mut other = boot.clone();
    other.event(14, kind::EV_IPL, b"key", b"MokList\0");
    assert!(other.held_against(&rules).unwrap_err().has("boot.unlisted"));
    let mut other = boot.clone();
    other.event(3, kind::EV_EFI_ACTION, b"x", b"x");
    assert!(other.held_against(&rules).unwrap_err().has("boot.pcr"));
    let accepting = policy(&format!("{text}unlisted_events: {{ 14: accept }}\n"));
    let mut other = boot.clone();
    other.event(14, kind::EV_IPL, b"key", b"MokList\0");
    other.held_against(&accepting).unwrap();
    let refusing = policy("version: 2\nunlisted_events: { 13: refuse }\n");
    let mut other = boot;
    other.event(
        13,
        kind::EV_IPL,
        b"sysext",
        &wide("System extension initrd\0"),
    );
    assert!(other
        .held_against(&refusing)
        .unwrap_err()
        .has("boot.unlisted"));
}

#[test]
fn stages_by_digest_in_their_order() {
    let stage = |name: &str, contents: &[u8], more: &str| {
        format!(
            "  - {{ name: {name}, any_of: [{{ digest: {} }}]{more} }}\n",
            hex(sha256(contents))
        )
    };
    let rules = policy(&format!(
        "version: 2\nboot_stages:\n{}{}{}{}",
        stage("shim", b"shim 15.8", ""),
        stage("fallback", b"fallback", ", optional: true"),
        stage("grub", b"grub 2.06", ""),
        stage("linux", b"kernel 6.1.0-50", "")
    ));
    Boot::shim_grub().held_against(&rules).unwrap();
    let mut swapped = Boot::shim_grub();
    let (shim, grub) = (swapped.find("shimx64"), swapped.find("grubx64"));
    swapped.events.swap(shim, grub);
    assert!(swapped
        .held_against(&rules)
        .unwrap_err()
        .has("boot.stages.unknown"));
    let mut fallback = Boot::shim_grub();
    fallback.before("grubx64", |boot| {
        boot.started(b"fallback", "\\EFI\\fbx64.efi");
    });
    fallback.held_against(&rules).unwrap();
    let mut twice = fallback;
    twice.before("grubx64", |boot| {
        boot.started(b"fallback", "\\EFI\\fbx64.efi");
    });
    assert!(twice.held_against(&rules).is_err());
}

#[test]
fn a_command_line_that_is_only_a_digest() {
    let line = "root=/dev/sda1 ro quiet";
    let boot = |line: &str| {
        let mut boot = Boot::firmware(false);
        boot.kernel_stub(&wide(&format!("{line}\0")), b"initramfs");
        boot
    };
    let rules = policy(&format!(
        "version: 2\nkernel_command_line: {{ exact: ['{line}'] }}\n"
    ));
    boot(line).held_against(&rules).unwrap();
    let refusal = boot("root=/dev/sda1 ro quiet init=/bin/sh")
        .held_against(&rules)
        .unwrap_err();
    assert!(refusal.has("boot.kernel_command_line.unknown"), "{refusal}");
}

fn uki_policy(more: &str) -> String {
    let pem = include_str!("data/uki/pub.pem")
        .trim_end()
        .replace('\n', "\n        ");
    let signatures = include_str!("data/uki/pcrsig.json").trim_end();
    format!(
        "version: 2\nsecure_boot: required\nuki:\n  signed:\n    keys:\n      - |\n        {pem}\n    signatures:\n      - {signatures}\n{more}"
    )
}

/// `pcrsig.json` was made by `systemd-measure sign` of systemd 252 on swtpm, over these very sections.
#[test]
fn signed_phases_of_a_unified_kernel_image() {
    let rules = policy(&uki_policy(""));
    let words = ["enter-initrd", "leave-initrd", "sysinit", "ready"];
    for count in 1..=4 {
        let mut boot = Boot::uki();
        boot.phases = words[..count].to_vec();
        boot.latched = count > 1;
        boot.held_against(&rules).unwrap();
    }
    // No share once the initramfs was left, though the value is signed.
    let mut boot = Boot::uki();
    boot.phases = words[..2].to_vec();
    let refusal = boot.held_against(&rules).unwrap_err();
    assert!(refusal.has("boot.uki.phase"), "{refusal}");
    // systemd-measure signs nothing before the first phase.
    let refusal = Boot::uki().held_against(&rules).unwrap_err();
    assert!(refusal.has("boot.uki.signature"), "{refusal}");
    // After shutdown began there is no phase that is accepted.
    boot.phases = vec![
        "enter-initrd",
        "leave-initrd",
        "sysinit",
        "ready",
        "shutdown",
    ];
    boot.latched = true;
    let refusal = boot.held_against(&rules).unwrap_err();
    assert!(refusal.has("boot.replay"), "{refusal}");

    let mut other = Boot::uki();
    other.phases = vec!["enter-initrd"];
    let index = other.find(".initrd") + 1;
    other.events[index].digest = sha256(b"initramfs of an attacker");
    let refusal = other.held_against(&rules).unwrap_err();
    assert!(refusal.has("boot.uki.signature"), "{refusal}");
}

#[test]
fn signatures_must_be_of_the_policys_keys() {
    let text = uki_policy("");
    let mut boot = Boot::uki();
    boot.phases = vec!["enter-initrd"];
    let first = text.find("\"sig\":\"").unwrap() + 7;
    let mut bytes = text.clone().into_bytes();
    bytes[first + 10] ^= 1;
    let damaged = policy(&String::from_utf8(bytes).unwrap());
    assert!(boot
        .held_against(&damaged)
        .unwrap_err()
        .has("boot.uki.signature"));
    for other in [
        text.replace("\"pcrs\":[11]", "\"pcrs\":[11,12]"),
        text.replace("\"sha256\"", "\"sha1\""),
    ] {
        assert!(boot
            .held_against(&policy(&other))
            .unwrap_err()
            .has("boot.uki.signature"));
    }
    let no_key = text.replace("PUBLIC KEY", "PRIVATE KEY");
    assert!(matches!(
        BootPolicy::from_yaml(no_key.as_bytes()),
        Err(PolicyError::Rule { .. })
    ));
}

#[test]
fn sections_of_a_unified_kernel_image() {
    let section =
        |name: &str, contents: &[u8]| format!("    {name}: [{}]\n", hex(sha256(contents)));
    let pem = include_bytes!("data/uki/pub.pem");
    let text = format!(
        "version: 2\nuki:\n  credentials: [{}]\n  sections:\n{}{}{}{}{}",
        hex(sha256(b"credentials")),
        section(".linux", b"kernel"),
        section(".osrel", b"ID=debian\n"),
        section(".cmdline", b"root=/dev/mapper/cryptroot ro quiet"),
        section(".initrd", b"initramfs"),
        section(".pcrpkey", pem),
    );
    let rules = policy(&format!("{text}kernel_command_line: {{}}\n"));
    Boot::uki().held_against(&rules).unwrap();
    type Attack = (&'static str, fn(&mut Boot), &'static str);
    let attacks: &[Attack] = &[
        (
            "other contents",
            |boot| {
                let index = boot.find(".cmdline") + 1;
                boot.events[index].digest = sha256(b"init=/bin/sh");
            },
            "boot.uki.section",
        ),
        (
            "a section more",
            |boot| {
                boot.section(".dtb", b"device tree");
            },
            "boot.uki.section",
        ),
        (
            "a section less",
            |boot| {
                let index = boot.find(".osrel");
                boot.events.drain(index..index + 2);
            },
            "boot.uki.section_missing",
        ),
        (
            "contents without a name",
            |boot| {
                boot.event(11, kind::EV_IPL, b"x", &wide(".initrd\0"));
            },
            "boot.uki.event",
        ),
        (
            "no image at all",
            |boot| boot.events.retain(|event| event.pcr != 11),
            "boot.uki.missing",
        ),
        (
            "a command line of the boot menu",
            |boot| {
                boot.covered(12, kind::EV_IPL, &wide("root=/dev/sdb1 init=/bin/sh\0"));
            },
            "boot.kernel_command_line.forbidden",
        ),
        (
            "a credential",
            |boot| {
                boot.event(12, kind::EV_IPL, b"others", &wide("Credentials initrd\0"));
            },
            "boot.uki.credentials",
        ),
        (
            "a system extension",
            |boot| {
                boot.event(
                    13,
                    kind::EV_IPL,
                    b"sysext",
                    &wide("System extension initrd\0"),
                );
            },
            "boot.uki.extensions",
        ),
    ];
    for (name, change, code) in attacks {
        let mut boot = Boot::uki();
        change(&mut boot);
        let refusal = boot.held_against(&rules).expect_err(name);
        assert!(refusal.has(code), "{name}: {refusal}");
    }
    let mut listed = Boot::uki();
    listed.event(
        12,
        kind::EV_IPL,
        b"credentials",
        &wide("Credentials initrd\0"),
    );
    listed.held_against(&rules).unwrap();
}

#[test]
fn documents_are_read_strictly() {
    let digest = hex([7; 32]);
    for bad in [
        "version: 2\nsecureboot: required\n".to_owned(),
        "version: 2\nsecure_boot: sometimes\n".into(),
        "version: 3\n".into(),
        "version: 2\nsecure_boot: any\nsecure_boot: required\n".into(),
        "version: 2\npcrs: { 10: [] }\n".into(),
        "version: 2\npcrs: { 15: [] }\n".into(),
        "version: 2\npcrs: { 4: [] }\n".into(),
        "version: 2\ndb: {}\n".into(),
        "version: 2\nsbat: {}\n".into(),
        "version: 2\ngrub: {}\n".into(),
        "version: 2\nuki: {}\n".into(),
        "version: 2\nfirmware: [{ name: x }]\n".into(),
        "version: 2\nboot_stages: [{ name: shim, any_of: [] }]\n".into(),
        "version: 2\nboot_stages: [{ name: shim, any_of: [{ note: x }] }]\n".into(),
        "version: 2\nboot_stages: [{ name: shim, any_of: [{ signer: { issuer: x } }] }]\n".into(),
        format!("version: 2\nboot_stages: [{{ name: shim, any_of: [{{ digest: {digest}, signer: {{ subject: x }} }}] }}]\n"),
        "version: 2\ngrub: { commands: [{ regex: '(' }] }\n".into(),
        "version: 2\ngrub: { commands: [{ regex: 'a{1000}{1000}' }] }\n".into(),
        format!("version: 2\ngrub: {{ files: [{{ path: '[', digests: [{digest}] }}] }}\n"),
        format!("version: 2\nuki: {{ sections: {{ linux: [{digest}] }} }}\n"),
        "version: 2\nuki: { signed: { keys: [x] } }\n".into(),
    ] {
        assert!(BootPolicy::from_yaml(bad.as_bytes()).is_err(), "{bad}");
    }
}

/// Every example of the manual together is a policy, and every code there is one of the program's.
#[test]
fn the_manual_is_true() {
    let manual = include_str!("../../../docs/policies-boot.md");
    let yaml: String = manual
        .split("```yaml\n")
        .skip(1)
        .filter_map(|part| part.split("```").next())
        .collect();
    let pem = include_str!("data/uki/pub.pem").replace('\n', "\\n");
    let yaml = yaml
        .replace("-----BEGIN PUBLIC KEY-----\\n…", &pem)
        .replace("\"pol\": \"…\"", &format!("\"pol\": \"{}\"", hex([1; 32])))
        .replace("… ", "");
    let mut text = yaml;
    for name in [
        "<fingerprint>",
        "<digest>",
        "<sha256>",
        "<value>",
        "<Authenticode SHA-256>",
    ] {
        text = text.replace(name, &hex([7; 32]));
    }
    let read = policy(&text);
    assert!(!read.is_empty());
    let sources = [
        "command_line",
        "firmware",
        "grub",
        "look",
        "phases",
        "rules",
        "secure_boot",
        "stages",
        "uki",
    ];
    for source in sources {
        let path = format!("{}/src/boot/{source}.rs", env!("CARGO_MANIFEST_DIR"));
        let code = std::fs::read_to_string(path).unwrap();
        for code in code
            .split("\"boot.")
            .skip(1)
            .filter_map(|part| part.split('"').next())
        {
            let last = code.rsplit('.').next().unwrap();
            let whole = format!("boot.{code}");
            let known = manual.contains(&whole) || manual.contains(&format!("`.{last}`"));
            assert!(code.contains('{') || known, "{whole} is not in the manual");
        }
    }
}

#[test]
fn real_boots_without_secure_boot() {
    let corpus = |name: &str| {
        let path = format!(
            "{}/../../fuzz/corpus/event_log/{name}",
            env!("CARGO_MANIFEST_DIR")
        );
        EventLog::parse(&std::fs::read(path).unwrap()).unwrap()
    };
    let log = corpus("debian12-ovmf.bin");
    let pcrs = log.replay();
    let any = policy("version: 2\nsecure_boot: any\n");
    Live::from(&any).dry_run(&pcrs, Some(&log), None).unwrap();
    let required = policy("version: 2\nsecure_boot: required\n");
    let refusal = Live::from(&required)
        .dry_run(&pcrs, Some(&log), None)
        .unwrap_err();
    assert!(refusal.has("boot.secure_boot.off"), "{refusal}");
    let detail = refusal.reasons().remove(0).detail;
    assert!(detail.contains("event 4, PCR 7"), "{detail}");
    let log = corpus("debian12-seabios.bin");
    let refusal = Live::from(&any)
        .dry_run(&log.replay(), Some(&log), None)
        .unwrap_err();
    assert!(refusal.has("boot.secure_boot.missing"), "{refusal}");
    assert!(!SBAT.is_empty());
}
