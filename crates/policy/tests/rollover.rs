//! An update goes through a healthy node while the policy's generations change: no false alarm, and no cover for
//! anything else.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use bootkeep_policy::{
    appraise_boot, appraise_runtime, boot_call, inspect, runtime_call, Attested, Baseline,
    BootOptions, BootPolicy, Generation, ImaState, Policies, Progress, Question, Refusal,
    RuntimePolicies, RuntimePolicy,
};
use bootkeep_protocol::{Nonce, Phase, Role};
use common::Machine;
use sha2::{Digest, Sha256};

const EXPORTER: [u8; 32] = [3; 32];
const FILES: usize = 250;
const HOUR: u64 = 3_600_000;

/// A file of one of the two releases; every third is the same in both.
fn contents(release: usize, file: usize) -> String {
    let release = if file % 3 == 0 { 0 } else { release };
    format!("release {release}, file {file}")
}

fn path(file: usize) -> String {
    format!("/usr/lib/package/{file}.so")
}

struct Fleet {
    machine: Machine,
    policies: RuntimePolicies,
    baseline: Baseline,
    ima: ImaState,
    appraisals: usize,
}

impl Fleet {
    /// Release 1 counts for the hours 0 to 3, release 2 from hour 1 on.
    fn new() -> Self {
        let mut machine = Machine::booted("node");
        let call = boot_call(Nonce::from([1; 32]), Role::Tenant, 0);
        let evidence = machine.evidence(&call, &EXPORTER);
        let ak = machine.ak();
        let question = Question {
            node: &machine.node,
            ak: &ak,
            call: &call,
            exporter: &EXPORTER,
            phase: Phase::Initramfs,
        };
        let good = inspect(&question, &evidence).unwrap();
        let boot =
            BootPolicy::from_evidence(&good.pcrs, good.event_log.as_ref(), &BootOptions::default());
        let boot = boot.unwrap();
        let generation = |release: usize, from: u64, until: u64| {
            let mut policy = RuntimePolicy::from_list(&good.ima).unwrap();
            for file in 0..FILES {
                let digest = Sha256::digest(contents(release, file));
                policy.accept_file(&path(file), digest.into()).unwrap();
            }
            Generation {
                number: release as u64,
                valid_from_ms: from,
                valid_until_ms: until,
                policy: Arc::new(policy),
                pcr_policies: Arc::default(),
            }
        };
        let policies = RuntimePolicies::new(vec![
            generation(1, 0, 3 * HOUR),
            generation(2, HOUR, 100 * HOUR),
        ]);
        let held = Policies {
            boot: (&boot).into(),
            runtime: &policies.at(0),
        };
        let booted = appraise_boot(&question, &evidence, held, None).unwrap();
        let (baseline, ima) = (booted.baseline().clone(), booted.ima().clone());
        machine.extend(15, &[9; 32]);
        machine.phase = Phase::Runtime;
        Self {
            machine,
            policies,
            baseline,
            ima,
            appraisals: 0,
        }
    }

    fn measure(&mut self, release: usize, file: usize) {
        let contents = contents(release, file);
        self.machine.measure(&path(file), contents.as_bytes());
    }

    /// An attestation at this moment; every fifth time after a restart of the verifier.
    fn attest(&mut self, now: u64) -> Result<Attested, Refusal> {
        self.appraisals += 1;
        if self.appraisals % 5 == 0 {
            self.ima = ImaState::from_bytes(&self.ima.to_bytes()).unwrap();
        }
        let nonce = Nonce::fresh().unwrap();
        let call = runtime_call(nonce, Role::Verifier, self.ima.offset());
        let mut evidence = self.machine.evidence(&call, &EXPORTER);
        if self.appraisals % 2 == 1 {
            return self.appraise(&call, &evidence, now);
        }
        // The list is read after the quote and may have grown: a line that no quote covers yet is not looked at.
        let mut later = self.machine.clone();
        later.measure("/usr/lib/package/later", b"of no generation");
        evidence.ima = later.evidence(&call, &EXPORTER).ima;
        let attested = self.appraise(&call, &evidence, now);
        self.ima = ImaState::from_bytes(&self.ima.to_bytes()).unwrap();
        attested
    }

    fn appraise(
        &mut self,
        call: &bootkeep_protocol::link::QuoteCall,
        evidence: &bootkeep_protocol::link::Evidence,
        now: u64,
    ) -> Result<Attested, Refusal> {
        let ak = self.machine.ak();
        let question = Question {
            node: &self.machine.node,
            ak: &ak,
            call,
            exporter: &EXPORTER,
            phase: Phase::Runtime,
        };
        let live = self.policies.at(now);
        let latched = &self.machine.pcrs[15];
        match appraise_runtime(
            &question,
            evidence,
            &live,
            latched,
            &self.baseline,
            &mut self.ima,
        )? {
            Progress::Whole(attested) => Ok(attested),
            Progress::More => panic!("the list is short"),
        }
    }
}

#[test]
fn a_thousand_benign_entries_while_generations_change_raise_no_alarm() {
    let mut fleet = Fleet::new();
    let mut alarms = Vec::new();
    // (release on disk, hours from, to): before the new generation, both counting, the update in between, after.
    for (release, file_step, from, to) in [(1, 1, 0, 1), (1, 7, 1, 2), (2, 1, 2, 3), (2, 3, 3, 4)] {
        for number in 0..FILES {
            fleet.measure(release, number * file_step % FILES);
            if number % 10 == 9 {
                let now = from * HOUR + (to - from) * HOUR * number as u64 / FILES as u64;
                alarms.extend(fleet.attest(now).err());
            }
        }
    }
    assert!(alarms.is_empty(), "{alarms:?}");
    assert_eq!(fleet.ima.entries(), 2 + 1000);
    assert_eq!(fleet.appraisals, 100);
    println!(
        "1000 benign entries, 2 generations, 100 appraisals: {} false alarms",
        alarms.len()
    );
}

#[test]
fn neither_generation_covers_what_belongs_to_none() {
    for (release, file, contents, now, expected) in [
        // Old files after the old generation ended, new ones before theirs began.
        (1, 1, None, 3 * HOUR, Some("file-digest")),
        (2, 1, None, HOUR - 1, Some("file-digest")),
        // At both edges, and in between.
        (1, 1, None, 3 * HOUR - 1, None),
        (2, 1, None, HOUR, None),
        (1, 1, None, 2 * HOUR, None),
        (1, 1, Some("evil"), 2 * HOUR, Some("file-digest")),
        (1, FILES + 1, None, 2 * HOUR, Some("file-not-listed")),
        (2, 1, None, 100 * HOUR, Some("policy-expired")),
    ] {
        let mut fleet = Fleet::new();
        match contents {
            Some(contents) => fleet.machine.measure(&path(file), contents.as_bytes()),
            None => fleet.measure(release, file),
        }
        let found = fleet.attest(now).err();
        let code = found.map(|refusal| refusal.reasons()[0].code.clone());
        assert_eq!(code.as_deref(), expected, "release {release} at {now}");
    }
}
