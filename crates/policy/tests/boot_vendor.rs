//! The vendor signs PCR 11 and the node brings the signatures: an update needs no new policy, and a signature in evidence
//! proves a value and nothing else.
#![allow(clippy::unwrap_used)]

mod boot_log;
mod common;

use boot_log::{
    images::{uki_boot, KERNEL_50, KERNEL_56, UKI_50, UKI_56},
    Boot,
};
use bootkeep_evidence::ima::boot_aggregate;
use bootkeep_policy::{
    appraise_boot, boot_call, BootPolicy, Live, Policies, Question, Refusal, RuntimePolicy,
};
use bootkeep_protocol::{limits::MAX_PCR_SIGNATURES, Bytes, Nonce, Role};
use common::Machine;

const SIGNATURES: [&[u8]; 2] = [
    include_bytes!("data/boot/pcrsig-50.json"),
    include_bytes!("data/boot/pcrsig-56.json"),
];
const KEY: &str = include_str!("data/boot/pcrpkey.pem");
const OTHER_KEY: &str = include_str!("data/uki/pub.pem");
/// Signatures of another key, over another image.
const OTHER_SIGNATURES: &[u8] = include_bytes!("data/uki/pcrsig.json");

fn text(key: &str, stages: &str) -> String {
    let key = key.trim_end().replace('\n', "\\n");
    format!("version: 2\nsecure_boot: required\nboot_stages:\n{stages}uki:\n  signed:\n    keys: [\"{key}\\n\"]\n")
}

/// Whoever vouched for the images of the made boots.
fn stages() -> String {
    let boot = uki_boot(UKI_50, KERNEL_50, "50").good();
    let made = BootPolicy::from_known_good(&[boot], &Default::default()).unwrap();
    let value = made.policy.to_value().unwrap();
    let signer = &value["boot_stages"][0]["any_of"][0]["signer"]["fingerprint"];
    let fingerprint = signer.as_str().unwrap();
    let stage = |name: &str| {
        format!(
            "  - {{ name: {name}, any_of: [{{ signer: {{ fingerprint: {fingerprint} }} }}] }}\n"
        )
    };
    format!(
        "{}{}  - {{ name: linux, any_of: [{{ pcr11: signed }}] }}\n",
        stage("systemd-boot"),
        stage("uki")
    )
}

fn policy() -> BootPolicy {
    BootPolicy::from_yaml(text(KEY, &stages()).as_bytes()).unwrap()
}

fn boots() -> [Boot; 2] {
    let mut boots = [
        uki_boot(UKI_50, KERNEL_50, "50"),
        uki_boot(UKI_56, KERNEL_56, "56"),
    ];
    for boot in &mut boots {
        boot.phases = vec!["enter-initrd"];
    }
    boots
}

fn held(boot: &Boot, policy: &BootPolicy, signatures: Option<&[u8]>) -> Result<(), Refusal> {
    Live::from(policy).dry_run_with(&boot.pcrs(), Some(&boot.log()), signatures, None)
}

#[test]
fn one_policy_accepts_every_image_the_vendor_signed() {
    let policy = policy();
    for (boot, signatures) in boots().iter().zip(SIGNATURES) {
        held(boot, &policy, Some(signatures)).unwrap();
        let padded = [signatures, &[0; 77]].concat();
        held(boot, &policy, Some(&padded)).unwrap();
        let newer = String::from_utf8(signatures.to_vec()).unwrap();
        let newer = newer.replacen("\"pkfp\"", "\"of-a-later-version\":1,\"pkfp\"", 1);
        held(boot, &policy, Some(newer.as_bytes())).unwrap();
    }
}

#[test]
fn without_a_good_signature_nothing_passes() {
    let policy = policy();
    let [boot, other] = &boots();
    let good = String::from_utf8(SIGNATURES[0].to_vec()).unwrap();
    let broken: serde_json::Value = {
        let mut value: serde_json::Value = serde_json::from_str(&good).unwrap();
        for entry in value["sha256"].as_array_mut().unwrap() {
            let signature = entry["sig"].as_str().unwrap().to_owned();
            entry["sig"] = format!("AAAA{}", &signature[4..]).into();
        }
        value
    };
    let broken = broken.to_string();
    let otherwise = good.replace("[11]", "[11,12]");
    let huge = [good.as_bytes(), &vec![b' '; MAX_PCR_SIGNATURES]].concat();
    let cases: [(&str, Option<&[u8]>); 9] = [
        ("none", None),
        ("empty", Some(b"")),
        ("no JSON", Some(b"{")),
        ("of another image", Some(SIGNATURES[1])),
        ("of another key", Some(OTHER_SIGNATURES)),
        ("tampered", Some(broken.as_bytes())),
        ("over other PCRs", Some(otherwise.as_bytes())),
        ("no list", Some(b"{\"sha256\":{}}")),
        ("too long", Some(&huge)),
    ];
    for (what, signatures) in cases {
        let refusal = held(boot, &policy, signatures).unwrap_err();
        assert!(refusal.has("boot.uki.signature"), "{what}: {refusal}");
        // The stage that rests on the signature falls with it.
        assert!(refusal.has("boot.stages.unknown"), "{what}: {refusal}");
    }
    assert!(held(other, &policy, Some(SIGNATURES[0])).is_err());
}

#[test]
fn evidence_brings_no_key() {
    // The image has its key in `.pcrpkey`, the policy has another.
    let stages = stages();
    let policy = BootPolicy::from_yaml(text(OTHER_KEY, &stages).as_bytes()).unwrap();
    let [boot, _] = &boots();
    let refusal = held(boot, &policy, Some(SIGNATURES[0])).unwrap_err();
    assert!(refusal.has("boot.uki.signature"), "{refusal}");
}

#[test]
fn another_phase_or_another_image_before_the_kernel_is_refused() {
    let policy = policy();
    let [mut boot, _] = boots();
    boot.phases.push("leave-initrd");
    let refusal = held(&boot, &policy, Some(SIGNATURES[0])).unwrap_err();
    assert!(refusal.has("boot.uki.phase"), "{refusal}");
    let [mut boot, _] = boots();
    boot.image([9; 32], "\\EFI\\other.efi");
    let refusal = held(&boot, &policy, Some(SIGNATURES[0])).unwrap_err();
    assert!(refusal.has("boot.stages.extra"), "{refusal}");
}

#[test]
fn pcr_11_alone_does_not_name_what_wrote_it() {
    let by_pcr11 = |name: &str| format!("  - {{ name: {name}, any_of: [{{ pcr11: signed }}] }}\n");
    let digest = |name: &str, more: &str| {
        format!(
            "  - {{ name: {name}, any_of: [{{ digest: {} }}]{more} }}\n",
            "07".repeat(32)
        )
    };
    let bad = [
        by_pcr11("uki"),
        format!("{}{}", by_pcr11("uki"), by_pcr11("linux")),
        format!(
            "{}{}{}",
            digest("uki", ""),
            by_pcr11("linux"),
            digest("more", "")
        ),
        format!("{}{}", digest("uki", ", optional: true"), by_pcr11("linux")),
        format!(
            "{}  - {{ name: x, any_of: [{{ pcr11: signed, digest: {} }}] }}\n",
            digest("uki", ""),
            "07".repeat(32)
        ),
    ];
    for stages in bad {
        assert!(
            BootPolicy::from_yaml(text(KEY, &stages).as_bytes()).is_err(),
            "{stages}"
        );
    }
    let good = format!("{}{}", digest("uki", ""), by_pcr11("linux"));
    BootPolicy::from_yaml(text(KEY, &good).as_bytes()).unwrap();
    let unsigned = format!("version: 2\nboot_stages:\n{good}");
    assert!(BootPolicy::from_yaml(unsigned.as_bytes()).is_err());
    let open = text(KEY, "").replace("boot_stages:\n", "");
    let open = BootPolicy::from_yaml(open.as_bytes()).unwrap();
    let warnings = open.warnings();
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("uki without boot_stages")),
        "{warnings:?}"
    );
}

/// A machine that boots an image of the vendor, quoted by its AK.
#[test]
fn the_verifier_takes_signatures_from_evidence() {
    let [boot, _] = &boots();
    let mut machine = Machine::booted("node");
    machine.event_log = boot.bytes();
    machine.ima.clear();
    for (pcr, value) in boot.pcrs().iter() {
        machine.pcrs[usize::from(pcr)] = *value;
    }
    let aggregate = boot_aggregate(&machine.values()).unwrap();
    machine.measure_digest("boot_aggregate", &aggregate);
    machine.measure("/init", b"init");
    let call = boot_call(Nonce::fresh().unwrap(), Role::Verifier, 0);
    let mut evidence = machine.evidence(&call, &[3; 32]);
    let (entries, _) = bootkeep_evidence::ima::parse_binary(&machine.ima).unwrap();
    let runtime = RuntimePolicy::from_list(&entries).unwrap();
    let policy = policy();
    let policies = Policies {
        boot: (&policy).into(),
        runtime: &runtime,
    };
    let ak = machine.ak();
    let question = Question {
        node: &machine.node,
        ak: &ak,
        call: &call,
        exporter: &[3; 32],
        phase: machine.phase,
    };
    let refusal = appraise_boot(&question, &evidence, policies, None).unwrap_err();
    assert!(refusal.has("boot.uki.signature"), "{refusal}");
    evidence.pcr_signatures = Some(Bytes(SIGNATURES[0].to_vec()));
    appraise_boot(&question, &evidence, policies, None).unwrap();
    evidence.pcr_signatures = Some(Bytes(SIGNATURES[1].to_vec()));
    assert!(appraise_boot(&question, &evidence, policies, None).is_err());
}
