//! A policy of a whole distribution stays quick to load and to hold evidence against. Prints figures, judges none.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Instant;

use bootkeep_policy::{
    appraise_runtime, boot_call, runtime_call, BootOptions, BootPolicy, Policies, Progress,
    Question, RuntimePolicy,
};
use bootkeep_protocol::{Nonce, Phase, Role};
use common::Machine;
use sha2::{Digest, Sha256};

const FILES: usize = 50_000;
const MEASURED: usize = 10_000;

fn path(number: usize) -> String {
    format!(
        "/usr/lib/x86_64-linux-gnu/package-{}/file-{number}.so",
        number % 997
    )
}

#[test]
fn fifty_thousand_files_and_ten_thousand_measurements() {
    let mut machine = Machine::booted("big");
    let exporter = [0; 32];
    let call = boot_call(Nonce::from([1; 32]), Role::Tenant, 0);
    let ak = machine.ak();
    let node = machine.node.clone();
    let question = |call, phase| Question {
        node: &node,
        ak: &ak,
        call,
        exporter: &exporter,
        phase,
    };
    let boot = machine.evidence(&call, &exporter);
    let good = bootkeep_policy::inspect(&question(&call, Phase::Initramfs), &boot).unwrap();
    let boot_policy =
        BootPolicy::from_evidence(&good.pcrs, good.event_log.as_ref(), &BootOptions::default())
            .unwrap();
    let mut policy = RuntimePolicy::from_list(&good.ima).unwrap();
    for number in 0..FILES {
        policy
            .accept_file(&path(number), Sha256::digest(path(number)).into())
            .unwrap();
    }
    let text = policy.to_value().unwrap().to_string();
    let started = Instant::now();
    let policy = RuntimePolicy::from_json(text.as_bytes()).unwrap();
    println!(
        "{FILES} files, {} bytes: read in {:?}",
        text.len(),
        started.elapsed()
    );
    let policies = Policies {
        boot: (&boot_policy).into(),
        runtime: &policy,
    };
    let booted =
        bootkeep_policy::appraise_boot(&question(&call, Phase::Initramfs), &boot, policies, None)
            .unwrap();
    for number in 0..MEASURED {
        machine.measure(&path(number), path(number).as_bytes());
    }
    machine.extend(15, &[9; 32]);
    machine.phase = Phase::Runtime;
    let mut ima = booted.ima().clone();
    let call = runtime_call(Nonce::from([2; 32]), Role::Verifier, ima.offset());
    let evidence = machine.evidence(&call, &exporter);
    let started = Instant::now();
    let progress = appraise_runtime(
        &question(&call, Phase::Runtime),
        &evidence,
        &policy,
        &machine.pcrs[15],
        booted.baseline(),
        &mut ima,
    );
    println!(
        "{MEASURED} measurements: appraised in {:?}",
        started.elapsed()
    );
    let Ok(Progress::Whole(attested)) = progress else {
        panic!("not attested");
    };
    assert_eq!(attested.ima_entries(), 2 + MEASURED as u64);
    let call = runtime_call(Nonce::from([3; 32]), Role::Verifier, ima.offset());
    let evidence = machine.evidence(&call, &exporter);
    let started = Instant::now();
    let again = appraise_runtime(
        &question(&call, Phase::Runtime),
        &evidence,
        &policy,
        &machine.pcrs[15],
        attested.baseline(),
        &mut ima,
    );
    println!("nothing new: appraised in {:?}", started.elapsed());
    assert!(again.is_ok());
}
