//! Every check of an appraisal decides: with one of them failing, the verdict is another.
#![allow(clippy::unwrap_used)]

mod common;

use aws_lc_rs::digest::{digest, SHA1_FOR_LEGACY_USE_ONLY};
use bootkeep_evidence::{eventlog::EventLog, ima::parse_binary};
use bootkeep_policy::{
    appraise_boot, appraise_runtime, appraise_whole, boot_call, inspect, runtime_call, Baseline,
    BootOptions, BootPolicy, Booted, ImaState, Policies, Progress, Question, Refusal,
    RuntimePolicy, UnsafeClock, ValuePolicy, ViolationRule,
};
use bootkeep_protocol::{
    link::{Claim, Evidence, QuoteCall},
    Bytes, Nonce, Phase, Role,
};
use common::Machine;
use sha2::{Digest, Sha256};

const EXPORTER: [u8; 32] = [3; 32];
const LATCH: [u8; 32] = [9; 32];

fn nonce() -> Nonce {
    Nonce::fresh().unwrap()
}

/// Policies of a known-good boot of this machine.
fn policies(machine: &Machine) -> (BootPolicy, RuntimePolicy) {
    let call = boot_call(nonce(), Role::Tenant, 0);
    let evidence = machine.evidence(&call, &EXPORTER);
    let good = inspect(&question(machine, &machine.ak(), &call), &evidence).unwrap();
    let boot =
        BootPolicy::from_evidence(&good.pcrs, good.event_log.as_ref(), &BootOptions::default());
    (boot.unwrap(), RuntimePolicy::from_list(&good.ima).unwrap())
}

fn question<'a>(
    machine: &'a Machine,
    ak: &'a bootkeep_evidence::AkPublic,
    call: &'a QuoteCall,
) -> Question<'a> {
    Question {
        node: &machine.node,
        ak,
        call,
        exporter: &EXPORTER,
        phase: machine.phase,
    }
}

struct Case {
    machine: Machine,
    boot: BootPolicy,
    runtime: RuntimePolicy,
    call: QuoteCall,
}

impl Case {
    fn new() -> Self {
        let machine = Machine::booted("node");
        let (boot, runtime) = policies(&machine);
        Self {
            machine,
            boot,
            runtime,
            call: boot_call(nonce(), Role::Verifier, 0),
        }
    }

    fn policies(&self) -> Policies<'_> {
        Policies {
            boot: (&self.boot).into(),
            runtime: &self.runtime,
        }
    }

    fn evidence(&self) -> Evidence {
        self.machine.evidence(&self.call, &EXPORTER)
    }

    fn appraise(&self, evidence: &Evidence) -> Result<Booted, Refusal> {
        let ak = self.machine.ak();
        let question = question(&self.machine, &ak, &self.call);
        appraise_boot(&question, evidence, self.policies(), None)
    }

    /// The code of the first reason, or `accepted`.
    fn verdict(&self, evidence: &Evidence) -> String {
        match self.appraise(evidence) {
            Ok(_) => "accepted".into(),
            Err(refusal) => refusal.reasons()[0].code.clone(),
        }
    }
}

fn flip(bytes: &mut Bytes, index: usize) {
    bytes.0[index] ^= 1;
}

#[test]
fn a_good_boot_is_accepted() {
    let case = Case::new();
    let booted = case.appraise(&case.evidence()).unwrap();
    assert_eq!(booted.nk_public(), &case.machine.nk);
    assert_eq!(booted.nonce(), &case.call.nonce);
    assert_eq!(booted.ima().entries(), 2);
    assert_eq!(booted.baseline().clock(), case.machine.clock);
}

/// The policy as the list of values it is.
fn values(policy: &mut BootPolicy) -> &mut ValuePolicy {
    match policy {
        BootPolicy::Values(policy) => policy,
        BootPolicy::Rules(_) => panic!("a policy of values"),
    }
}

type Spoil = fn(&mut Case, &mut Evidence);

#[test]
fn each_check_of_the_quote_decides() {
    let cases: [(&str, Spoil); 12] = [
        ("quote-signature", |_, e| flip(&mut e.quote.signature, 20)),
        ("quote-signature", |_, e| flip(&mut e.quote.attest, 30)),
        ("quote-signature", |case, _| {
            case.machine.ak_public = Machine::booted("x").ak_public
        }),
        ("quote-magic", |case, e| {
            case.machine.form.magic ^= 1;
            *e = case.evidence();
        }),
        ("quote-type", |case, e| {
            case.machine.form.kind = 0x8017;
            *e = case.evidence();
        }),
        ("quote-qualifying-data", |case, _| case.call.nonce = nonce()),
        ("quote-qualifying-data", |case, _| {
            case.call.asker = Role::Tenant
        }),
        ("quote-qualifying-data", |_, e| flip(&mut e.nk_public, 0)),
        ("quote-qualifying-data", |case, e| {
            *e = case.machine.evidence(&case.call, &[4; 32])
        }),
        ("quote-selection", |case, e| {
            let mut call = case.call.clone();
            call.pcrs.pop();
            *e = case.machine.evidence(&call, &EXPORTER);
        }),
        ("quote-pcr-digest", |_, e| {
            flip(&mut e.quote.pcrs[4].digest, 0)
        }),
        ("evidence-malformed", |_, e| {
            e.quote.pcrs[4].digest = Bytes(vec![0; 31])
        }),
    ];
    for (code, spoil) in cases {
        let mut case = Case::new();
        let mut evidence = case.evidence();
        assert_eq!(case.verdict(&evidence), "accepted");
        spoil(&mut case, &mut evidence);
        assert_eq!(case.verdict(&evidence), code);
    }
}

#[test]
fn each_check_after_the_quote_decides() {
    let cases: [(&str, Spoil); 15] = [
        ("phase", |_, e| e.phase = Phase::Runtime),
        ("question", |case, _| case.call.ima_offset = None),
        ("latched", |case, e| {
            case.machine.extend(15, &LATCH);
            *e = case.evidence();
        }),
        ("event-log-missing", |_, e| e.event_log = None),
        ("event-log-malformed", |_, e| {
            e.event_log.as_mut().unwrap().0.truncate(300);
        }),
        ("event-log-replay", |_, e| {
            // The digest of the last event, in the log only.
            let log = e.event_log.as_mut().unwrap();
            let end = log.0.len() - 40;
            flip(log, end);
        }),
        ("pcr-value", |case, _| {
            values(&mut case.boot).pcrs.insert(14, vec![[1; 32].into()]);
        }),
        ("boot-policy-empty", |case, _| {
            values(&mut case.boot).pcrs.clear()
        }),
        ("pcr-value", |case, _| {
            values(&mut case.boot).pcrs.insert(4, Vec::new());
        }),
        ("ima-missing", |_, e| e.ima = None),
        ("ima-malformed", |_, e| {
            e.ima.as_mut().unwrap().data.0.truncate(100);
        }),
        ("ima-malformed", |_, e| e.ima.as_mut().unwrap().offset = 1),
        ("ima-replay", |case, e| {
            case.machine.extend(10, &[1; 32]);
            *e = case.evidence();
        }),
        ("file-not-listed", |case, e| {
            case.machine.measure("/usr/bin/evil", b"evil");
            *e = case.evidence();
        }),
        ("runtime-policy-empty", |case, _| {
            case.runtime = RuntimePolicy::default()
        }),
    ];
    for (code, spoil) in cases {
        let mut case = Case::new();
        let mut evidence = case.evidence();
        assert_eq!(case.verdict(&evidence), "accepted");
        spoil(&mut case, &mut evidence);
        assert_eq!(case.verdict(&evidence), code);
    }
}

#[test]
fn a_changed_command_line_is_named() {
    let mut case = Case::new();
    case.machine.boot(b"quiet init=/bin/sh");
    let refusal = case.appraise(&case.evidence()).unwrap_err();
    let reasons = refusal.reasons();
    let event = reasons
        .iter()
        .find(|reason| reason.code == "boot-event")
        .unwrap();
    assert_eq!(
        event.detail,
        "event 4, PCR 9, EV_EVENT_TAG: kernel command line (LOADED_IMAGE::LoadOptions): \
         not the digest the policy expects"
    );
    assert!(refusal.has("pcr-value"));
}

#[test]
fn types_and_data_of_events_decide_nothing() {
    let case = Case::new();
    let mut evidence = case.evidence();
    let log = evidence.event_log.as_mut().unwrap();
    // The last event (initramfs): its text, which its digest does not cover, claims something else.
    let end = log.0.len() - 3;
    log.0[end] = b'X';
    assert_eq!(case.verdict(&evidence), "accepted");
    // A type that says "not extended" takes the event out of the replay.
    let mut evidence = case.evidence();
    let log = evidence.event_log.as_mut().unwrap();
    let kind = log
        .0
        .windows(8)
        .rposition(|bytes| bytes == [9, 0, 0, 0, 6, 0, 0, 0])
        .unwrap();
    log.0[kind + 4] = 3;
    assert_eq!(case.verdict(&evidence), "event-log-replay");
}

#[test]
fn the_order_of_events_decides() {
    let mut case = Case::new();
    let mut other = case.machine.clone();
    other.pcrs[9] = [0; 32];
    other
        .event_log
        .truncate(other.event_log.len() - 2 * 46 - 26 - 21 - 8);
    let log = EventLog::parse(&case.machine.event_log).unwrap();
    let (cmdline, initramfs) = (&log.events()[3], &log.events()[4]);
    for event in [initramfs, cmdline] {
        other.extend(9, &event.digest);
    }
    case.machine.pcrs[9] = other.pcrs[9];
    assert_eq!(case.verdict(&case.evidence()), "event-log-replay");
}

#[test]
fn boot_aggregate_must_fit() {
    let mut case = Case::new();
    case.machine.ima.clear();
    case.machine.pcrs[10] = [0; 32];
    case.machine.measure_digest("boot_aggregate", &[1; 32]);
    assert_eq!(case.verdict(&case.evidence()), "boot-aggregate");
    case.machine.ima.clear();
    case.machine.pcrs[10] = [0; 32];
    case.machine.measure("/init", b"init");
    assert_eq!(case.verdict(&case.evidence()), "boot-aggregate");
}

#[test]
fn a_kernel_without_ima_is_refused() {
    let mut case = Case::new();
    case.machine.pcrs[10] = [0; 32];
    assert_eq!(case.verdict(&case.evidence()), "ima-replay");
    case.machine.ima.clear();
    let refusal = case.appraise(&case.evidence()).unwrap_err();
    assert!(refusal.has("boot-aggregate") && refusal.has("ima-replay"));
}

#[test]
fn dropped_reordered_and_changed_entries_are_noticed() {
    let mut case = Case::new();
    for name in ["/a", "/b", "/c"] {
        case.machine.measure(name, name.as_bytes());
    }
    case.runtime = policies(&case.machine).1;
    assert_eq!(case.verdict(&case.evidence()), "accepted");
    let (entries, _) = parse_binary(&case.machine.ima).unwrap();
    let length = case.machine.ima.len() / entries.len();
    let entry = |name: &str| {
        let at = case
            .machine
            .ima
            .windows(3)
            .position(|w| w == [name.as_bytes(), &[0]].concat());
        at.unwrap() + 3
    };
    // The ends of the three: each is as long as the others.
    let (a, b, c) = (entry("/a"), entry("/b"), entry("/c"));
    let start = a - (b - a);
    let length_of_fields = 4 + 7 + 1 + 32 + 4 + 3;
    assert!(length > 0 && b - a == c - b);
    let mut dropped = case.evidence();
    dropped.ima.as_mut().unwrap().data.0.drain(a..b);
    let mut swapped = case.evidence();
    swapped.ima.as_mut().unwrap().data.0[a..c].rotate_left(b - a);
    let mut changed = case.evidence();
    flip(&mut changed.ima.as_mut().unwrap().data, b - 2);
    let mut rewritten = case.evidence();
    let list = &mut rewritten.ima.as_mut().unwrap().data.0;
    list[b - 2] ^= 1;
    let fields = digest(&SHA1_FOR_LEGACY_USE_ONLY, &list[b - length_of_fields..b]);
    let sha1 = b - length_of_fields - 4 - 6 - 4 - 20;
    list[sha1..sha1 + 20].copy_from_slice(fields.as_ref());
    let mut inserted = case.evidence();
    let list = &mut inserted.ima.as_mut().unwrap().data.0;
    let copy = list[a..b].to_vec();
    list.splice(b..b, copy);
    let mut far = case.evidence();
    let list = &mut far.ima.as_mut().unwrap().data.0;
    let first = list[start..a].to_vec();
    let last = list[b..c].to_vec();
    list[start..a].copy_from_slice(&last);
    list[b..c].copy_from_slice(&first);
    for (evidence, code, named) in [
        (dropped, "ima-replay", "from entry 0 on"),
        (rewritten, "ima-replay", "from entry 0 on"),
        (swapped, "ima-order", "IMA entries 3, /c, and 4, /b:"),
        (far, "ima-order", "IMA entries 2, /c, and 4, /a:"),
        (changed, "ima-template-hash", "IMA entry 3, /c:"),
        (inserted, "ima-inserted", "IMA entry 3, /b:"),
    ] {
        let reason = case.appraise(&evidence).unwrap_err().reasons()[0].clone();
        assert_eq!(reason.code, code);
        assert!(reason.detail.contains(named), "{}", reason.detail);
    }
}

#[test]
fn the_clock_only_goes_forward() {
    let case = Case::new();
    let now = case.machine.clock;
    let earlier = |change: fn(&mut bootkeep_evidence::ClockInfo)| {
        let mut clock = now;
        change(&mut clock);
        clock
    };
    let ak = case.machine.ak();
    for (previous, code) in [
        (now, None),
        (earlier(|c| c.clock -= 1), None),
        (earlier(|c| c.reset_count -= 1), None),
        (earlier(|c| c.clock += 1), Some("clock")),
        (earlier(|c| c.restart_count += 1), Some("restart-count")),
        (earlier(|c| c.reset_count += 1), Some("reset-count")),
        (
            earlier(|c| {
                c.reset_count += 1;
                c.clock -= 1
            }),
            Some("reset-count"),
        ),
    ] {
        let question = question(&case.machine, &ak, &case.call);
        let verdict = appraise_boot(&question, &case.evidence(), case.policies(), Some(previous));
        let found = verdict
            .err()
            .map(|refusal| refusal.reasons()[0].code.clone());
        assert_eq!(found.as_deref(), code, "{previous:?}");
    }
}

#[test]
fn policy_decides_about_a_boot_after_the_power_went() {
    for (safe, lost, claims) in [
        (true, 0, &[][..]),
        (false, 0, &["unclean-power-off"]),
        // Seen with a software TPM that was killed: `safe` is set although the clock lost what was not stored.
        (true, 1, &["clock-went-back"]),
        (false, 1, &["unclean-power-off", "clock-went-back"]),
    ] {
        let mut case = Case::new();
        let previous = bootkeep_evidence::ClockInfo {
            clock: case.machine.clock.clock + lost,
            reset_count: case.machine.clock.reset_count - 1,
            ..case.machine.clock
        };
        case.machine.clock.safe = safe;
        let ak = case.machine.ak();
        let verdict = |case: &Case| {
            let question = question(&case.machine, &ak, &case.call);
            appraise_boot(&question, &case.evidence(), case.policies(), Some(previous))
        };
        let booted = verdict(&case).unwrap();
        let codes = |list: &[Claim]| list.iter().map(|c| c.code.clone()).collect::<Vec<_>>();
        assert_eq!(codes(booted.claims()), claims);
        assert_eq!(booted.baseline().clock().safe, safe);
        values(&mut case.boot).unsafe_clock = UnsafeClock::Refuse;
        let refused = verdict(&case).err().map(|refusal| refusal.reasons());
        let codes: Vec<_> = refused
            .iter()
            .flatten()
            .map(|reason| &reason.code)
            .collect();
        assert_eq!(codes, claims);
    }
}

#[test]
fn shares_are_for_the_initramfs_only() {
    let mut case = Case::new();
    case.machine.phase = Phase::Runtime;
    assert_eq!(case.verdict(&case.evidence()), "phase");
}

/// A machine that has booted, opened its volume and runs.
struct Running {
    case: Case,
    latched: [u8; 32],
    baseline: Baseline,
    ima: ImaState,
}

impl Running {
    fn new() -> Self {
        let mut case = Case::new();
        let booted = case.appraise(&case.evidence()).unwrap();
        let (baseline, ima) = (booted.baseline().clone(), booted.ima().clone());
        case.machine.extend(15, &LATCH);
        case.machine.phase = Phase::Runtime;
        case.runtime
            .accept_file("/usr/bin/true", Sha256::digest(b"true").into())
            .unwrap();
        Self {
            latched: case.machine.pcrs[15],
            case,
            baseline,
            ima,
        }
    }

    fn attest(&mut self) -> Result<Progress, Refusal> {
        self.case.call = runtime_call(nonce(), Role::Verifier, self.ima.offset());
        let evidence = self.case.evidence();
        self.appraise(&evidence)
    }

    fn appraise(&mut self, evidence: &Evidence) -> Result<Progress, Refusal> {
        let ak = self.case.machine.ak();
        appraise_runtime(
            &question(&self.case.machine, &ak, &self.case.call),
            evidence,
            &self.case.runtime,
            &self.latched,
            &self.baseline,
            &mut self.ima,
        )
    }
}

type Change = fn(&mut Running);

fn code(result: Result<Progress, Refusal>) -> String {
    match result {
        Ok(Progress::Whole(_)) => "trusted".into(),
        Ok(Progress::More) => "more".into(),
        Err(refusal) => refusal.reasons()[0].code.clone(),
    }
}

#[test]
fn a_running_node_is_attested_piece_by_piece() {
    let mut running = Running::new();
    assert_eq!(code(running.attest()), "trusted");
    running.case.machine.measure("/usr/bin/true", b"true");
    let before = running.ima.offset();
    let Ok(Progress::Whole(attested)) = running.attest() else {
        panic!("not attested");
    };
    assert_eq!(attested.ima_entries(), 3);
    assert!(running.ima.offset() > before);
    running.case.machine.measure("/usr/bin/evil", b"evil");
    let refusal = running.attest().unwrap_err();
    assert!(refusal
        .to_string()
        .contains("IMA entry 3, /usr/bin/evil: not in the policy"));
    assert_eq!(running.ima.entries(), 3, "a refusal moves nothing");
}

#[test]
fn lines_newer_than_the_quote_wait_for_the_next() {
    let mut running = Running::new();
    running.case.call = runtime_call(nonce(), Role::Verifier, running.ima.offset());
    let mut evidence = running.case.evidence();
    running.case.machine.measure("/usr/bin/evil", b"evil");
    let newer = running.case.evidence().ima;
    evidence.ima = newer;
    assert_eq!(code(running.appraise(&evidence)), "trusted");
    assert_eq!(running.ima.offset(), running.case.machine.ima.len() as u64);
    assert_eq!(code(running.attest()), "file-not-listed");
}

#[test]
fn each_check_of_a_running_node_decides() {
    let cases: [(&str, Change); 9] = [
        ("latch-value", |r| r.latched = [1; 32]),
        ("latch-value", |r| r.case.machine.pcrs[15] = [0; 32]),
        ("other-boot", |r| r.case.machine.clock.reset_count += 1),
        ("reset-count", |r| r.case.machine.clock.reset_count -= 1),
        ("clock", |r| r.case.machine.clock.clock -= 1),
        ("pcr-changed", |r| r.case.machine.extend(7, &[1; 32])),
        ("file-digest", |r| {
            r.case.machine.measure("/usr/bin/true", b"false")
        }),
        ("ima-violation", |r| r.case.machine.violate("/usr/bin/true")),
        ("runtime-policy-empty", |r| {
            r.case.runtime = RuntimePolicy::default()
        }),
    ];
    for (expected, spoil) in cases {
        let mut running = Running::new();
        assert_eq!(code(running.attest()), "trusted");
        spoil(&mut running);
        assert_eq!(code(running.attest()), expected);
    }
}

#[test]
fn an_old_answer_is_no_answer_to_a_new_question() {
    let mut running = Running::new();
    running.case.call = runtime_call(nonce(), Role::Verifier, running.ima.offset());
    let old = running.case.evidence();
    assert_eq!(code(running.appraise(&old)), "trusted");
    running.case.call = runtime_call(nonce(), Role::Verifier, running.ima.offset());
    assert_eq!(code(running.appraise(&old)), "quote-qualifying-data");
}

#[test]
fn a_running_node_can_be_appraised_from_nothing() {
    let running = Running::new();
    let case = &running.case;
    let ak = case.machine.ak();
    let mut ima = ImaState::default();
    let call = boot_call(nonce(), Role::Tenant, 0);
    let evidence = case.machine.evidence(&call, &EXPORTER);
    let ask = |latched: &[u8; 32], ima: &mut ImaState| {
        let question = question(&case.machine, &ak, &call);
        appraise_whole(&question, &evidence, case.policies(), latched, None, ima)
    };
    assert_eq!(code(ask(&[1; 32], &mut ima)), "latch-value");
    assert_eq!(ima.offset(), 0);
    assert_eq!(code(ask(&running.latched, &mut ima)), "trusted");
}

#[test]
fn a_list_longer_than_one_answer_is_asked_for_in_parts() {
    let mut running = Running::new();
    let name = "/".to_owned() + &"x".repeat(200_000);
    running
        .case
        .runtime
        .accept_file(&name, Sha256::digest(b"x").into())
        .unwrap();
    for _ in 0..25 {
        running.case.machine.measure(&name, b"x");
    }
    running.case.call = runtime_call(nonce(), Role::Verifier, running.ima.offset());
    let mut evidence = running.case.evidence();
    let slice = evidence.ima.as_mut().unwrap();
    assert!(slice.data.0.len() > bootkeep_protocol::limits::MAX_IMA_SLICE);
    slice
        .data
        .0
        .truncate(bootkeep_protocol::limits::MAX_IMA_SLICE);
    assert_eq!(code(running.appraise(&evidence)), "more");
    assert_eq!(code(running.attest()), "trusted");
    assert_eq!(running.ima.entries(), 27);
}

#[test]
fn a_list_without_end_does_not_fill_the_memory() {
    let mut running = Running::new();
    let mut endless = running.case.machine.clone();
    endless.measure(&("/".to_owned() + &"x".repeat(1_000_000)), b"x");
    let entry = endless.ima.split_off(running.case.machine.ima.len());
    let part = entry.repeat(5)[..bootkeep_protocol::limits::MAX_IMA_SLICE].to_vec();
    running.case.machine.extend(10, &[1; 32]);
    for round in 0..20 {
        running.case.call = runtime_call(nonce(), Role::Verifier, running.ima.offset());
        let mut evidence = running.case.evidence();
        // Whole entries are taken; the one that is cut comes first in the next part.
        evidence.ima.as_mut().unwrap().data = Bytes(part.clone());
        match code(running.appraise(&evidence)).as_str() {
            "more" => {}
            code => return assert_eq!((code, round > 3), ("ima-too-long", true)),
        }
    }
    panic!("no end");
}

#[test]
fn excludes_and_rules_work() {
    let cases: [(&str, Change); 8] = [
        ("trusted", |r| {
            r.case.runtime.exclude(&["/var/log/**".into()]).unwrap();
            r.case
                .machine
                .measure("/var/log/journal/x/system.journal", b"x");
        }),
        ("ima-violation", |r| {
            // The path of a violation is the node's free choice.
            r.case.runtime.exclude(&["/var/log/**".into()]).unwrap();
            r.case.machine.violate("/var/log/journal/x/system.journal");
        }),
        ("file-not-listed", |r| {
            r.case.runtime.exclude(&["/var/*".into()]).unwrap();
            r.case.machine.measure("/var/log/x", b"x");
        }),
        ("trusted", |r| {
            r.case.runtime.set_violations(ViolationRule::Accept);
            r.case.machine.violate("/usr/bin/true");
        }),
        ("file-not-listed", |r| {
            r.case.machine.measure("memfd:x", b"x")
        }),
        ("ima-template", |r| {
            r.case
                .machine
                .measure_field("ima-new", "/usr/bin/true", b"sha256:\0", false);
        }),
        ("file-digest-algorithm", |r| {
            let field = [b"sha1:\0".as_slice(), &[1; 20]].concat();
            r.case
                .machine
                .measure_field("ima-ng", "/usr/bin/true", &field, false);
        }),
        ("file-not-listed", |r| {
            r.case.machine.measure_digest("boot_aggregate", &[1; 32])
        }),
    ];
    for (expected, change) in cases {
        let mut running = Running::new();
        change(&mut running);
        assert_eq!(code(running.attest()), expected);
    }
}

#[test]
fn names_from_the_node_are_made_safe_to_show() {
    let mut running = Running::new();
    running
        .case
        .machine
        .measure("/evil\u{1b}[2J\u{202e}", b"evil");
    let detail = running.attest().unwrap_err().reasons()[0].detail.clone();
    assert!(detail.starts_with("IMA entry 2, /evil?[2J?:"), "{detail}");
}

#[test]
fn reasons_are_bounded() {
    let mut running = Running::new();
    for number in 0..100 {
        running
            .case
            .machine
            .measure(&format!("/evil/{number}"), b"evil");
    }
    let reasons = running.attest().unwrap_err().reasons();
    assert_eq!(reasons.len(), bootkeep_policy::MAX_REASONS + 1);
    assert_eq!(reasons.last().unwrap().detail, "and 68 more");
}

#[test]
fn a_stored_checkpoint_goes_on_where_it_was() {
    let mut running = Running::new();
    running.case.machine.measure("/usr/bin/true", b"true");
    running.case.call = runtime_call(nonce(), Role::Verifier, running.ima.offset());
    let mut evidence = running.case.evidence();
    running.case.machine.measure("/usr/bin/evil", b"evil");
    evidence.ima = running.case.evidence().ima;
    assert_eq!(code(running.appraise(&evidence)), "trusted");
    let whole = running.case.machine.ima.len() as u64;
    assert_eq!(running.ima.offset(), whole, "the newer line is kept");

    let stored = running.ima.to_bytes();
    running.ima = ImaState::from_bytes(&stored).unwrap();
    assert_eq!(running.ima.entries(), 3);
    assert_eq!(running.ima.to_bytes(), stored);
    assert!(
        running.ima.offset() < whole,
        "the newer line is asked for again"
    );
    running.case.call = runtime_call(nonce(), Role::Verifier, running.ima.offset());
    let evidence = running.case.evidence();
    assert!(evidence.ima.as_ref().unwrap().data.0.len() < 120);
    assert_eq!(code(running.appraise(&evidence)), "file-not-listed");
    let fresh = ImaState::default();
    assert_eq!(ImaState::from_bytes(&fresh.to_bytes()), Ok(fresh));
}

#[test]
fn a_damaged_checkpoint_is_no_checkpoint() {
    let mut running = Running::new();
    assert_eq!(code(running.attest()), "trusted");
    let good = running.ima.to_bytes();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(ImaState::from_bytes(&bad).is_err(), "bit {bit}");
    }
    for length in 0..good.len() {
        assert!(ImaState::from_bytes(&good[..length]).is_err());
    }
    // Whoever can write a checksum can still not claim entries without bytes.
    for range in [8..40, 40..48, 48..56] {
        let mut bad = good[..56].to_vec();
        bad[range].fill(0);
        let sum = Sha256::digest(&bad);
        bad.extend_from_slice(&sum);
        assert!(ImaState::from_bytes(&bad).is_err());
    }
}
