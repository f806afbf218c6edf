//! What events say: read only where the digest covers it. Key databases are those of Debian's OVMF with Microsoft's
//! keys (`OVMF_VARS_4M.ms.fd`), event logs are captures of Debian 12.
#![allow(clippy::unwrap_used)]

use bootkeep_evidence::eventlog::{
    device_path_text, kind, Authority, Claim, ClaimError, Event, EventLog, Guid, SbatLevel,
    Separator, SignatureData, SignatureLists,
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const PK: &[u8] = include_bytes!("data/efi-pk.bin");
const KEK: &[u8] = include_bytes!("data/efi-kek.bin");
const DB: &[u8] = include_bytes!("data/efi-db.bin");
const DBX: &[u8] = include_bytes!("data/efi-dbx.bin");
const OVMF: &[u8] = include_bytes!("../../../fuzz/corpus/event_log/debian12-ovmf.bin");
const SEABIOS: &[u8] = include_bytes!("../../../fuzz/corpus/event_log/debian12-seabios.bin");

fn event(pcr: u8, event_type: u32, digested: &[u8], data: &[u8]) -> Event {
    Event {
        number: 1,
        pcr,
        event_type,
        digest: Sha256::digest(digested).into(),
        data: data.to_vec(),
    }
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn variable(vendor: Guid, name: &str, data: &[u8]) -> Vec<u8> {
    [
        &vendor.0[..],
        &(name.len() as u64).to_le_bytes(),
        &(data.len() as u64).to_le_bytes(),
        &wide(name),
        data,
    ]
    .concat()
}

#[test]
fn real_key_databases_are_read() {
    let names = |bytes: &[u8]| -> Vec<String> {
        let lists = SignatureLists::parse(bytes).unwrap();
        let entries = lists.entries().iter();
        entries
            .map(|entry| match &entry.data {
                SignatureData::X509(certificate) => {
                    assert_eq!(entry.digest, certificate.fingerprint);
                    certificate.names.as_ref().unwrap().subject.clone()
                }
                SignatureData::Sha256(digest) => hex::encode(digest),
                other => format!("{other:?}"),
            })
            .collect()
    };
    assert!(names(PK)[0].contains("Debian"), "{:?}", names(PK));
    assert!(names(KEK)
        .iter()
        .any(|name| name.contains("Microsoft Corporation KEK CA 2011")));
    let db = names(DB);
    assert_eq!(db.len(), 2);
    assert!(db
        .iter()
        .any(|name| name.contains("Microsoft Corporation UEFI CA 2011")));
    let uefi_ca = "48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507";
    let entries = SignatureLists::parse(DB).unwrap();
    assert!(entries
        .entries()
        .iter()
        .any(|entry| hex::encode(entry.digest) == uefi_ca));
    // 76 bytes: one SHA-256 digest, that of the empty string.
    assert_eq!(names(DBX), [hex::encode(Sha256::digest(b""))]);
    assert!(SignatureLists::parse(b"").unwrap().entries().is_empty());
    for cut in 1..DB.len() {
        let result = SignatureLists::parse(&DB[..cut]);
        let whole_list = result
            .as_ref()
            .is_ok_and(|lists| lists.entries().len() == 1);
        assert!(result.is_err() || whole_list, "{cut}");
    }
}

#[test]
fn the_log_of_a_real_boot_is_read() {
    let log = EventLog::parse(OVMF).unwrap();
    let claims: Vec<Claim<'_>> = log
        .events()
        .iter()
        .map(|event| event.claim().unwrap())
        .collect();
    assert_eq!(claims[0], Claim::FirmwareVersion(String::new()));
    let Claim::Variable(secure_boot) = &claims[3] else {
        panic!("{:?}", claims[3]);
    };
    assert!(secure_boot.is(Guid::GLOBAL, "SecureBoot"));
    assert_eq!(secure_boot.switch(), Some(false));
    assert_eq!(claims[8], Claim::Separator(Separator::Clean));
    let Claim::Opaque(kernel) = &claims[9] else {
        panic!("{:?}", claims[9]);
    };
    assert_eq!(
        kernel.hint(),
        "VenMedia(1428f772-b64a-441e-b8c3-9ebdd7f893c7)/kernel"
    );
    let calling = "Calling EFI Application from Boot Option";
    assert_eq!(claims[12], Claim::Action(calling.into()));
    let Claim::Opaque(options) = &claims[20] else {
        panic!("{:?}", claims[20]);
    };
    assert!(options.says_load_options() && !options.says_initrd());
    let Claim::Opaque(initrd) = &claims[21] else {
        panic!("{:?}", claims[21]);
    };
    assert!(initrd.says_initrd());
    let log = EventLog::parse(SEABIOS).unwrap();
    assert!(log.events().iter().all(|event| event.claim().is_ok()));
}

#[test]
fn data_that_the_digest_does_not_cover_is_not_read() {
    let on = variable(Guid::GLOBAL, "SecureBoot", &[1]);
    let off = variable(Guid::GLOBAL, "SecureBoot", &[0]);
    for kind in [
        kind::EV_EFI_VARIABLE_DRIVER_CONFIG,
        kind::EV_EFI_VARIABLE_AUTHORITY,
        kind::EV_EFI_VARIABLE_BOOT2,
        kind::EV_EFI_GPT_EVENT,
        kind::EV_EFI_ACTION,
        kind::EV_S_CRTM_VERSION,
        kind::EV_SEPARATOR,
    ] {
        assert_eq!(
            event(7, kind, &off, &on).claim(),
            Err(ClaimError::NotCovered),
            "{kind:x}"
        );
    }
    let image = event(4, kind::EV_EFI_BOOT_SERVICES_APPLICATION, b"image", &on);
    assert!(matches!(image.claim(), Ok(Claim::Opaque(_))));
}

#[test]
fn retyped_events_are_refused() {
    let off = variable(Guid::GLOBAL, "SecureBoot", &[0]);
    let calling = b"Calling EFI Application from Boot Option";
    for (data, kinds) in [
        (
            &off[..],
            [kind::EV_IPL, kind::EV_EFI_ACTION, kind::EV_POST_CODE],
        ),
        (
            &[0; 4],
            [
                kind::EV_IPL,
                kind::EV_EFI_ACTION,
                kind::EV_EFI_VARIABLE_AUTHORITY,
            ],
        ),
        (
            &[1, 0, 0, 0],
            [kind::EV_IPL, kind::EV_COMPACT_HASH, kind::EV_S_CRTM_VERSION],
        ),
        (
            calling,
            [kind::EV_IPL, kind::EV_COMPACT_HASH, kind::EV_POST_CODE],
        ),
    ] {
        for kind in kinds {
            let claim = event(4, kind, data, data);
            let claim = claim.claim();
            assert!(
                matches!(claim, Err(ClaimError::Retyped(_))),
                "{kind:x}: {claim:?}"
            );
        }
    }
    // An error separator stays one, whatever its data say.
    let error = event(0, kind::EV_SEPARATOR, &[1, 0, 0, 0], &[0; 4]);
    assert_eq!(error.claim(), Ok(Claim::Separator(Separator::Error)));
}

#[test]
fn strings_of_boot_loaders_are_what_was_measured() {
    let line = "/vmlinuz root=/dev/sda1 ro";
    let text = |event: &Event| match event.claim() {
        Ok(Claim::Text(text)) => Some((text.label, text.text)),
        other => panic!("{other:?}"),
    };
    let labelled = event(
        8,
        kind::EV_IPL,
        line.as_bytes(),
        format!("kernel_cmdline: {line}\0").as_bytes(),
    );
    assert_eq!(
        text(&labelled),
        Some((Some("kernel_cmdline".into()), line.into()))
    );
    let bare = event(
        8,
        kind::EV_IPL,
        line.as_bytes(),
        format!("{line}\0").as_bytes(),
    );
    assert_eq!(text(&bare), Some((None, line.into())));
    let with_nul = format!("{line}\0");
    let both = event(8, kind::EV_IPL, with_nul.as_bytes(), with_nul.as_bytes());
    assert_eq!(text(&both), Some((None, line.into())));
    let stub = wide(&with_nul);
    assert_eq!(
        text(&event(12, kind::EV_IPL, &stub, &stub)),
        Some((None, line.into()))
    );
    // Another string beside the digest is only a hint.
    let other = event(
        8,
        kind::EV_IPL,
        b"/vmlinuz init=/bin/sh",
        format!("kernel_cmdline: {line}\0").as_bytes(),
    );
    assert!(matches!(other.claim(), Ok(Claim::Opaque(_))));
    // A NUL inside hides the rest from people, not from the kernel: no text.
    let hidden = b"/vmlinuz ro\0 init=/bin/sh";
    assert!(matches!(
        event(8, kind::EV_IPL, hidden, hidden).claim(),
        Ok(Claim::Data(_))
    ));
}

#[test]
fn sections_of_a_unified_kernel_image() {
    let named = event(11, kind::EV_IPL, b".linux\0", &wide(".linux\0"));
    assert!(matches!(named.claim(), Ok(Claim::Section(section)) if section.name == ".linux"));
    let contents = event(11, kind::EV_IPL, b"MZ", &wide(".linux\0"));
    assert!(matches!(contents.claim(), Ok(Claim::Opaque(_))));
}

#[test]
fn authorities() {
    let lists = SignatureLists::parse(DB).unwrap();
    // The first list of db holds one certificate: GUID and three sizes, then owner and certificate.
    let size = u32::from_le_bytes(DB[16..20].try_into().unwrap()) as usize;
    let signature = &DB[28..size];
    let claim = |vendor, name, data: &[u8]| {
        let data = variable(vendor, name, data);
        match event(7, kind::EV_EFI_VARIABLE_AUTHORITY, &data, &data).claim() {
            Ok(Claim::Authority(authority)) => authority,
            other => panic!("{other:?}"),
        }
    };
    let expected = lists.entries()[0].digest;
    for (vendor, name, data) in [
        (Guid::SECURITY_DATABASE, "db", signature),
        (Guid::SHIM, "Shim", &signature[16..]),
    ] {
        match claim(vendor, name, data) {
            Authority::Certificate {
                source,
                certificate,
                ..
            } => {
                assert_eq!((source.as_str(), certificate.fingerprint), (name, expected));
            }
            other => panic!("{other:?}"),
        }
    }
    let hash = [&[7; 16][..], &[8; 32]].concat();
    let authority = claim(Guid::SECURITY_DATABASE, "db", &hash);
    assert!(matches!(authority, Authority::Hash { digest, .. } if digest == [8; 32]));
    let authority = claim(Guid::SHIM, "MokListTrusted", &[1]);
    assert!(matches!(authority, Authority::State { value, .. } if value == [1]));
    let level = b"sbat,1,2022052400\nshim,2\ngrub,3\n";
    let Authority::Sbat(level) = claim(Guid::SHIM, "SbatLevel", level) else {
        panic!("no SbatLevel");
    };
    assert_eq!(
        (level.date, level.of("grub"), level.of("fwupd")),
        (2_022_052_400, 3, 0)
    );
    for bad in [
        "",
        "grub,1\n",
        "sbat,1,x\n",
        "sbat,1,1\ngrub\n",
        "sbat,1,1\ngrub,-1\n",
    ] {
        assert!(SbatLevel::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn the_partition_table() {
    let partition = [&[1; 16][..], &[2; 16], &[0; 24], &wide("esp"), &[0; 66]].concat();
    assert_eq!(partition.len(), 128);
    let data = [
        &[0; 56][..],
        &[9; 16],
        &[0; 20],
        &1u64.to_le_bytes(),
        &partition,
    ]
    .concat();
    let gpt = event(5, kind::EV_EFI_GPT_EVENT, &data, &data);
    let Ok(Claim::Partitions(table)) = gpt.claim() else {
        panic!("{:?}", gpt.claim());
    };
    assert_eq!(
        (table.disk, table.partitions[0].name.as_str()),
        (Guid([9; 16]), "esp")
    );
    let many = [&data[..92], &u64::MAX.to_le_bytes()].concat();
    let many = event(5, kind::EV_EFI_GPT_EVENT, &many, &many);
    assert!(matches!(many.claim(), Err(ClaimError::Malformed(_))));
}

proptest! {
    #[test]
    fn no_event_makes_a_reader_panic(
        kind in prop_oneof![0u32..16, 0x8000_0000u32..0x8000_0010, Just(0x8000_00e0)],
        data in prop::collection::vec(any::<u8>(), 0..200),
        covered in any::<bool>(),
    ) {
        let digested: &[u8] = if covered { &data } else { b"other" };
        let event = event(7, kind, digested, &data);
        match event.claim() {
            Ok(Claim::Opaque(opaque)) => { let _ = (opaque.hint(), opaque.says_initrd()); }
            Ok(Claim::Variable(_) | Claim::Authority(_) | Claim::Partitions(_) | Claim::FirmwareVersion(_)) =>
                prop_assert!(covered),
            _ => {}
        }
    }

    #[test]
    fn no_bytes_make_the_list_parsers_panic(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = SignatureLists::parse(&data);
        let _ = SbatLevel::parse(&data);
        let _ = device_path_text(&data);
    }

    #[test]
    fn a_variable_comes_back(name in "[A-Za-z]{1,20}", data in prop::collection::vec(any::<u8>(), 0..64)) {
        let bytes = variable(Guid::SECURITY_DATABASE, &name, &data);
        let event = event(7, kind::EV_EFI_VARIABLE_DRIVER_CONFIG, &bytes, &bytes);
        match event.claim() {
            Ok(Claim::Variable(read)) => prop_assert_eq!((read.name.as_str(), read.data), (name.as_str(), &data[..])),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
