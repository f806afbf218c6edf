//! A node with a software TPM on one side, a verifier that asks what the test wants on the other.
#![allow(clippy::unwrap_used)]

#[path = "../../service/tests/common/mod.rs"]
mod common;
mod node;
mod verifier;

use bootkeep_node::session::{
    event_queue, revocation_channel, share_channel, Ended, OpenError, Session,
};
use bootkeep_protocol::{
    dsse::Envelope,
    link::{
        ActivateCall, Call, Event, NodeFrame, Outcome, QuoteCall, Reply, ServerFrame, ShareCall,
        SharePart, Step,
    },
    registrar::activation_message,
    revocation::{RevocationsCall, RevocationsReply, HEAD_TYPE},
    Bytes, Nonce, Phase, Problem, ProblemKind, Role,
};
use node::Node;
use verifier::{Link, Verifier};

fn quote(nonce: u8, pcrs: &[u8]) -> Call {
    Call::Quote(QuoteCall {
        nonce: Nonce::from([nonce; 32]),
        asker: Role::Verifier,
        pcrs: pcrs.to_vec(),
        event_log: true,
        ima_offset: Some(4),
    })
}

fn share() -> Call {
    Call::Share(ShareCall {
        part: SharePart::U,
        nonce: Nonce::from([5; 32]),
        encapsulated: vec![1; 32].into(),
        ciphertext: vec![2; 48].into(),
        envelope: None,
        kept: None,
    })
}

fn revocations() -> Call {
    Call::Revocations(RevocationsCall {
        head: Envelope {
            payload: b"{}".to_vec().into(),
            payload_type: HEAD_TYPE.into(),
            signatures: Vec::new(),
        },
        entries: Vec::new(),
        crl: None,
    })
}

fn refusal(code: &str) -> Problem {
    Problem::new(ProblemKind::Untrusted, code, "for the test")
}

fn code(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Refused(problem) => &problem.code,
        Outcome::Ok(_) => "ok",
    }
}

/// Opens a session and gives both ends of it.
macro_rules! opened {
    ($node:expr, $verifier:expr) => {{
        let urls = [$verifier.url()];
        let tls = $verifier.tls();
        let session = async { Session::open(&$node.attester, &tls, &urls).await };
        let (session, link) = tokio::join!(session, $verifier.accepted(&$node.attester));
        (session.unwrap(), link)
    }};
}

#[tokio::test]
async fn quotes_are_bound_to_link_asker_and_nonce() {
    let node = Node::start().await;
    let verifier = Verifier::start().await;
    let (session, mut link) = opened!(node, verifier);
    assert_eq!(session.exporter(), &link.exporter);
    let (_events, mut queue) = event_queue();
    let asking = async {
        for (number, pcrs) in [(1, vec![0, 10, 15]), (2, vec![15])] {
            let Outcome::Ok(Reply::Quote(evidence)) = link.ask(quote(number, &pcrs)).await else {
                panic!("no quote")
            };
            assert_eq!(evidence.phase, Phase::Initramfs);
            assert_eq!(
                evidence.event_log,
                Some(Bytes::from(b"an event log".as_slice()))
            );
            let ima = evidence.ima.clone().unwrap();
            assert_eq!((ima.offset, ima.data.as_slice()), (4, b"56789".as_slice()));
            let good =
                verifier::check_quote(&node.attester, &link.exporter, number, &pcrs, &evidence);
            good.unwrap();
            // The same evidence does not fit another nonce, selection or link.
            let others = [
                verifier::check_quote(&node.attester, &link.exporter, 9, &pcrs, &evidence),
                verifier::check_quote(&node.attester, &link.exporter, number, &[1], &evidence),
                verifier::check_quote(&node.attester, &[0; 32], number, &pcrs, &evidence),
            ];
            assert!(others.iter().all(Result::is_err), "{others:?}");
        }
        link.close().await;
    };
    let (ended, ()) = tokio::join!(session.serve(None, &mut queue), asking);
    assert!(matches!(ended, Ended::Closed), "{ended}");
}

#[tokio::test]
async fn an_rsa_node_opens_links_and_quotes_as_well() {
    let node = Node::start_with(bootkeep_tpm::AkKind::Rsa2048).await;
    let verifier = Verifier::start().await;
    // The opening quote is checked with the RSA key in there.
    let (session, mut link) = opened!(node, verifier);
    let (_events, mut queue) = event_queue();
    let asking = async {
        let Outcome::Ok(Reply::Quote(evidence)) = link.ask(quote(1, &[0, 15])).await else {
            panic!("no quote")
        };
        verifier::check_quote(&node.attester, &link.exporter, 1, &[0, 15], &evidence).unwrap();
        link.close().await;
    };
    tokio::join!(session.serve(None, &mut queue), asking);
}

#[tokio::test]
async fn bad_calls_are_refused_and_the_link_lives() {
    let node = Node::start().await;
    let verifier = Verifier::start().await;
    let (session, mut link) = opened!(node, verifier);
    let (_events, mut queue) = event_queue();
    let asking = async {
        let bad_credential = Call::Activate(ActivateCall {
            challenge_id: "c".into(),
            credential_blob: vec![1; 40].into(),
            encrypted_secret: vec![2; 256].into(),
        });
        let long = Call::Activate(ActivateCall {
            challenge_id: "c".repeat(1000),
            credential_blob: vec![].into(),
            encrypted_secret: vec![].into(),
        });
        let cases = [
            ("no PCR", quote(1, &[]), "bad-call"),
            ("PCR twice", quote(1, &[3, 3]), "bad-call"),
            ("PCR 24", quote(1, &[24]), "bad-call"),
            ("foreign credential", bad_credential, "credential-refused"),
            ("long challenge", long, "bad-call"),
            ("share to the running system", share(), "no-shares-here"),
            (
                "revocations to the initramfs",
                revocations(),
                "no-revocations-here",
            ),
        ];
        for (name, call, wanted) in cases {
            assert_eq!(code(&link.ask(call).await), wanted, "{name}");
        }
        assert_eq!(code(&link.ask(quote(1, &[0])).await), "ok");
        link.close().await;
    };
    let (ended, ()) = tokio::join!(session.serve(None, &mut queue), asking);
    assert!(matches!(ended, Ended::Closed), "{ended}");
}

#[tokio::test]
async fn a_credential_for_this_node_is_opened() {
    use bootkeep_evidence::{AkPublic, EkPublic};
    let node = Node::start().await;
    let verifier = Verifier::start().await;
    let (session, mut link) = opened!(node, verifier);
    let (_events, mut queue) = event_queue();
    let identity = &node.attester.identity;
    let ek = EkPublic::parse(&identity.ek_public).unwrap();
    let ak = AkPublic::parse(&identity.ak_public).unwrap();
    let secret = [9; 32];
    let made = bootkeep_credential::make_credential(&ek, ak.name(), &secret).unwrap();
    let call = Call::Activate(ActivateCall {
        challenge_id: "challenge".into(),
        credential_blob: made.blob.into(),
        encrypted_secret: made.encrypted_secret.into(),
    });
    let asking = async {
        let Outcome::Ok(Reply::Activate { proof }) = link.ask(call).await else {
            panic!("no proof")
        };
        let message = activation_message("challenge", &identity.node_id);
        assert_eq!(proof.as_slice(), verifier::hmac(&secret, &message));
        link.close().await;
    };
    tokio::join!(session.serve(None, &mut queue), asking);
}

#[tokio::test]
async fn shares_go_to_the_agent_and_its_answer_back() {
    let node = Node::start().await;
    let verifier = Verifier::start().await;
    let (session, mut link) = opened!(node, verifier);
    let (_events, mut queue) = event_queue();
    let (shares, mut taken) = share_channel();
    let exporter = link.exporter;
    let agent = async {
        let first = taken.recv().await.unwrap();
        assert_eq!(
            (first.exporter, &Call::Share(first.call.clone())),
            (exporter, &share())
        );
        first.answer(Ok(None));
        taken
            .recv()
            .await
            .unwrap()
            .answer(Ok(Some(vec![7; 32].into())));
        taken
            .recv()
            .await
            .unwrap()
            .answer(Err(refusal("envelope-refused")));
        drop(taken.recv().await.unwrap());
    };
    let asking = async {
        let confirmed = |confirmation| Outcome::Ok(Reply::Share { confirmation });
        assert_eq!(link.ask(share()).await, confirmed(None));
        assert_eq!(link.ask(share()).await, confirmed(Some(vec![7; 32].into())));
        assert_eq!(code(&link.ask(share()).await), "envelope-refused");
        assert_eq!(code(&link.ask(share()).await), "no-shares-here");
        link.close().await;
    };
    tokio::join!(session.serve(Some(&shares), &mut queue), agent, asking);
}

#[tokio::test]
async fn revocations_go_to_whoever_takes_them_and_the_answer_back() {
    let node = Node::start().await;
    let verifier = Verifier::start().await;
    let (session, mut link) = opened!(node, verifier);
    let (_events, mut queue) = event_queue();
    let (revoked, mut taken) = revocation_channel();
    let session = session.taking_revocations(&revoked);
    let reply = RevocationsReply {
        sequence: 3,
        digest: vec![3; 32].into(),
        done: Vec::new(),
    };
    let taking = async {
        let first = taken.recv().await.unwrap();
        assert_eq!(Call::Revocations(first.call.clone()), revocations());
        first.answer(Ok(reply.clone()));
        let second = taken.recv().await.unwrap();
        second.answer(Err(refusal("out-of-order")));
        drop(taken.recv().await.unwrap());
    };
    let asking = async {
        let taken = Outcome::Ok(Reply::Revocations(reply.clone()));
        assert_eq!(link.ask(revocations()).await, taken);
        assert_eq!(code(&link.ask(revocations()).await), "out-of-order");
        assert_eq!(code(&link.ask(revocations()).await), "no-revocations-here");
        link.close().await;
    };
    tokio::join!(session.serve(None, &mut queue), taking, asking);
}

#[tokio::test]
async fn a_share_that_names_no_quote_of_its_holder_is_marked() {
    let node = Node::start().await;
    let verifier = Verifier::start().await;
    let (session, mut link) = opened!(node, verifier);
    let (_events, mut queue) = event_queue();
    let (shares, mut taken) = share_channel();
    let asking = async {
        let mut quoted = Vec::new();
        let by_tenant = |nonce: u8| match quote(nonce, &[15]) {
            Call::Quote(call) => Call::Quote(QuoteCall {
                asker: Role::Tenant,
                ..call
            }),
            other => other,
        };
        // The share is U, the tenant's, and names nonce 5.
        for before in [quote(5, &[15]), by_tenant(4), by_tenant(5)] {
            assert_eq!(code(&link.ask(before).await), "ok");
            link.request(1, share()).await;
            let request = taken.recv().await.unwrap();
            quoted.push(request.quoted);
            request.answer(Ok(None));
            link.reply().await;
        }
        link.close().await;
        quoted
    };
    let (_, quoted) = tokio::join!(session.serve(Some(&shares), &mut queue), asking);
    assert_eq!(quoted, [false, false, true]);
}

#[tokio::test]
async fn calls_do_not_wait_for_each_other() {
    let node = Node::start().await;
    let verifier = Verifier::start().await;
    let (session, mut link) = opened!(node, verifier);
    let (_events, mut queue) = event_queue();
    let (shares, mut taken) = share_channel();
    let asking = async {
        link.request(1, share()).await;
        let held = taken.recv().await.unwrap();
        link.request(2, quote(1, &[0])).await;
        assert!(matches!(link.reply().await, (2, Outcome::Ok(_))));
        held.answer(Ok(None));
        assert!(matches!(link.reply().await, (1, Outcome::Ok(_))));
        link.close().await;
    };
    tokio::join!(session.serve(Some(&shares), &mut queue), asking);
}

#[tokio::test]
async fn too_many_calls_at_once_are_refused() {
    const AT_ONCE: u64 = 16;
    let node = Node::start().await;
    let verifier = Verifier::start().await;
    let (session, mut link) = opened!(node, verifier);
    let (_events, mut queue) = event_queue();
    let (shares, mut taken) = share_channel();
    let asking = async {
        let mut held = Vec::new();
        for id in 0..AT_ONCE {
            link.request(id, share()).await;
            held.push(taken.recv().await.unwrap());
        }
        link.request(AT_ONCE, quote(1, &[0])).await;
        let (id, outcome) = link.reply().await;
        assert_eq!((id, code(&outcome)), (AT_ONCE, "busy"));
        held.into_iter()
            .for_each(|request| request.answer(Ok(None)));
        for _ in 0..AT_ONCE {
            assert_eq!(code(&link.reply().await.1), "ok");
        }
        assert_eq!(code(&link.ask(quote(1, &[0])).await), "ok");
        link.close().await;
    };
    tokio::join!(session.serve(Some(&shares), &mut queue), asking);
}

#[tokio::test]
async fn events_outlive_a_link_and_the_last_one_is_out_before_done() {
    let node = Node::start().await;
    let verifier = Verifier::start().await;
    let (events, mut queue) = event_queue();
    let (session, link) = opened!(node, verifier);
    link.close().await;
    assert!(matches!(
        session.serve(None, &mut queue).await,
        Ended::Closed
    ));
    let sent: Vec<_> = (1..=3).map(|count| Event::ImaGrew { count }).collect();
    for event in &sent {
        events.send(event.clone()).await.unwrap();
    }
    let last = Event::Progress {
        step: Step::Unlocked,
        at_ms: 1,
    };
    events.send(last.clone()).await.unwrap();
    drop(events);
    let (session, mut link) = opened!(node, verifier);
    let listening = async {
        let mut seen = Vec::new();
        while let Ok(Some(NodeFrame::Event { event })) = link.next().await {
            seen.push(event);
        }
        seen
    };
    let (ended, seen) = tokio::join!(session.serve(None, &mut queue), listening);
    assert!(matches!(ended, Ended::Done), "{ended}");
    assert_eq!(seen, [sent, vec![last]].concat());
}

#[tokio::test]
async fn refusals_are_typed_at_every_moment() {
    let node = Node::start().await;
    let verifier = Verifier::start().await;
    let refused = |code: &str| ServerFrame::Refused {
        problem: refusal(code),
    };
    let urls = [verifier.url()];
    let tls = verifier.tls();

    // Instead of the hello.
    let deny = async { verifier.link().await.say(&refused("full")).await };
    let (opened, _) = tokio::join!(Session::open(&node.attester, &tls, &urls), deny);
    assert!(matches!(opened, Err(OpenError::Refused(p)) if p.code == "full"));

    // Instead of the acceptance.
    let deny = async {
        let mut link: Link = verifier.link().await;
        link.hello(&node.attester).await;
        link.say(&refused("unknown-node")).await;
        link
    };
    let (opened, _) = tokio::join!(Session::open(&node.attester, &tls, &urls), deny);
    assert!(matches!(opened, Err(OpenError::Refused(p)) if p.code == "unknown-node"));

    // In the middle.
    let (session, link) = opened!(node, verifier);
    let (_events, mut queue) = event_queue();
    link.say(&refused("file-not-listed")).await;
    let ended = session.serve(None, &mut queue).await;
    assert!(matches!(ended, Ended::Refused(p) if p.code == "file-not-listed"));
}

#[tokio::test]
async fn a_verifier_out_of_turn_or_version_is_left() {
    let node = Node::start().await;
    let verifier = Verifier::start().await;
    let urls = [verifier.url()];
    let tls = verifier.tls();
    let nonce = Nonce::from([1; 32]);
    type Check = fn(&OpenError) -> bool;
    let cases: [(ServerFrame, Check); 2] = [
        (ServerFrame::Hello { version: 2, nonce }, |e| {
            matches!(e, OpenError::Version(2))
        }),
        (ServerFrame::Accepted {}, |e| {
            matches!(e, OpenError::OutOfTurn)
        }),
    ];
    for (frame, check) in cases {
        let speak = async {
            let link = verifier.link().await;
            link.say(&frame).await;
            link
        };
        let (opened, _) = tokio::join!(Session::open(&node.attester, &tls, &urls), speak);
        assert!(check(&opened.unwrap_err()), "{frame:?}");
    }
    let vanish = async { verifier.link().await.close().await };
    let (opened, ()) = tokio::join!(Session::open(&node.attester, &tls, &urls), vanish);
    assert!(matches!(opened, Err(OpenError::Closed)));

    let (session, link) = opened!(node, verifier);
    let (_events, mut queue) = event_queue();
    link.say(&ServerFrame::Accepted {}).await;
    assert!(matches!(
        session.serve(None, &mut queue).await,
        Ended::OutOfTurn
    ));
}
