//! Writes the seeds that a software TPM and our own code make into `fuzz/corpus`: quotes, public areas, sealed
//! containers and messages. Event logs and measurement lists there are captures of real boots.

#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use bootkeep_credential::make_credential;
use bootkeep_evidence::EkPublic;
use bootkeep_protocol::{
    link::{
        ActivateCall, Call, Claim, Event, Evidence, ImaSlice, NodeFrame, Open, Outcome, PcrValue,
        Quote, QuoteCall, Reply, ServerFrame, ShareCall, SharePart, Step,
    },
    registrar::RegisterRequest,
    BootId, NodeId, Nonce, Phase, Problem, ProblemKind, Role,
};
use bootkeep_swtpm::Swtpm;
use bootkeep_tpkd::{
    seal_document, seal_envelope, BootstrapKey, DocumentKey, Envelope, Item, SealedText,
};
use bootkeep_tpm::{AkKind, EkKind, Tcti, Tpm, TpmQuote};
use serde::Serialize;

fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    fs::create_dir_all(folder.join(target)).unwrap();
    fs::write(folder.join(target).join(name), bytes).unwrap();
}

fn message(name: &str, message: &impl Serialize) {
    write("frames", name, &serde_json::to_vec(message).unwrap());
}

fn main() {
    let swtpm = Swtpm::certified().unwrap();
    certificates(&swtpm);
    let port = swtpm.port();
    let mut tpm = Tpm::open(&Tcti::Swtpm { port }).unwrap();
    keys_and_quotes(&mut tpm);
    containers();
    messages(&mut tpm);
}

/// The EK certificate target's manufacturer, its one EK, and the certificate as NV holds it: with padding.
fn certificates(swtpm: &Swtpm) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/ek");
    fs::create_dir_all(folder.join("roots")).unwrap();
    for root in fs::read_dir(swtpm.roots()).unwrap() {
        let root = root.unwrap();
        fs::copy(root.path(), folder.join("roots").join(root.file_name())).unwrap();
    }
    let port = swtpm.port();
    let ek = Tpm::open(&Tcti::Swtpm { port })
        .unwrap()
        .ek_public()
        .unwrap();
    let der = ek.certificate.unwrap();
    fs::write(folder.join("ek.public"), &ek.public).unwrap();
    fs::write(folder.join("ek.der"), &der).unwrap();
    write("ek_certificate", "rsa.der", &der);
    write(
        "ek_certificate",
        "rsa-padded.der",
        &[&der[..], &[0xff; 64]].concat(),
    );
}

fn keys_and_quotes(tpm: &mut Tpm) {
    for (name, kind) in [("p256", AkKind::EccP256), ("rsa", AkKind::Rsa2048)] {
        tpm.use_ak(kind);
        let ak = tpm.ensure_ak().unwrap();
        write("key_public", &format!("ak-{name}"), &ak.public);
        for (pcrs, selection) in [("pcr0", &[0][..]), ("pcr0-15", &[0, 7, 10, 15])] {
            let quote = tpm.quote(&[1, 2, 3, 4, 5], selection).unwrap();
            write("quote", &format!("{name}-{pcrs}.attest"), &quote.attest);
            write(
                "quote",
                &format!("{name}-{pcrs}.signature"),
                &quote.signature,
            );
        }
    }
    for (name, kind) in [
        ("p256", EkKind::EccP256),
        ("p256-high", EkKind::EccP256High),
        ("rsa", EkKind::Rsa2048),
        ("rsa-high", EkKind::Rsa2048High),
    ] {
        let ek = tpm.ek_of_kind(kind).unwrap();
        write("key_public", &format!("ek-{name}"), &ek.public);
    }
}

fn containers() {
    let envelope = Envelope {
        items: vec![
            Item::LuksKey {
                volume: "cryptroot".into(),
                key: vec![1; 32],
            },
            Item::UserDataKey {
                key_id: "id".into(),
                key: vec![2; 32],
            },
            Item::File {
                path: "/etc/motd".into(),
                mode: 0o644,
                owner: "root".into(),
                group: "root".into(),
                contents: b"hello".to_vec(),
            },
        ],
    };
    let key = BootstrapKey::from_bytes([9; 32]);
    let sealed = seal_envelope(&key, "a node", &envelope).unwrap();
    write("container", "envelope", &sealed);
    let plain = serde_json::to_vec(&envelope).unwrap();
    write("container", "envelope-contents.json", &plain);
    let key = DocumentKey::from_bytes("id", [9; 32]);
    let sealed = seal_document(&key, "a node", b"#cloud-config\n").unwrap();
    write("container", "document", &sealed);
    let text = SealedText::encode(&sealed);
    write("container", "document.txt", text.0.as_bytes());
    write("container", "document.mime", text.message().as_bytes());
}

fn quote_of(quote: TpmQuote) -> Quote {
    let value = |(index, digest): (u8, [u8; 32])| PcrValue {
        index,
        digest: digest.as_slice().into(),
    };
    Quote {
        attest: quote.attest.into(),
        signature: quote.signature.into(),
        pcrs: quote.pcrs.into_iter().map(value).collect(),
    }
}

fn messages(tpm: &mut Tpm) {
    let (ek, ak) = (tpm.ek_public().unwrap(), tpm.ensure_ak().unwrap());
    let nonce = || Nonce::from([7; 32]);
    let boot_id: BootId = "5f0c1d2e-0000-4000-8000-000000000001".parse().unwrap();
    let quote = quote_of(tpm.quote(&[1; 32], &[0, 15]).unwrap());
    message(
        "hello",
        &ServerFrame::Hello {
            version: 1,
            nonce: nonce(),
        },
    );
    message("accepted", &ServerFrame::Accepted {});
    let problem = Problem::new(ProblemKind::Untrusted, "quote-signature", "no");
    message("problem", &problem);
    message("refused", &ServerFrame::Refused { problem });
    let open = Open {
        node_id: NodeId::of_ek_public(&ek.public),
        phase: Phase::Initramfs,
        boot_id: boot_id.clone(),
        nk_public: [5; 32].as_slice().into(),
        quote: quote.clone(),
    };
    message("open", &NodeFrame::Open(open));
    let credential = EkPublic::parse(&ek.public).unwrap();
    let credential = make_credential(&credential, &ak.name, &[1; 32]).unwrap();
    for (name, call) in [
        (
            "call-quote",
            Call::Quote(QuoteCall {
                nonce: nonce(),
                asker: Role::Verifier,
                pcrs: vec![0, 15],
                event_log: true,
                ima_offset: Some(0),
            }),
        ),
        (
            "call-activate",
            Call::Activate(ActivateCall {
                challenge_id: "c1".into(),
                credential_blob: credential.blob.into(),
                encrypted_secret: credential.encrypted_secret.into(),
            }),
        ),
        (
            "call-share",
            Call::Share(ShareCall {
                part: SharePart::V,
                nonce: nonce(),
                encapsulated: [1; 32].as_slice().into(),
                ciphertext: [2; 48].as_slice().into(),
                envelope: Some(b"BKSEAL1\n".as_slice().into()),
                kept: None,
            }),
        ),
    ] {
        message(name, &ServerFrame::Request { id: 1, call });
    }
    let evidence = Evidence {
        quote,
        nk_public: [5; 32].as_slice().into(),
        boot_id,
        phase: Phase::Runtime,
        event_log: Some(b"log".as_slice().into()),
        ima: Some(ImaSlice {
            offset: 0,
            data: b"list".as_slice().into(),
        }),
        pcr_signatures: None,
    };
    let outcome = Outcome::Ok(Reply::Quote(Box::new(evidence)));
    message("reply-quote", &NodeFrame::Reply { id: 1, outcome });
    for (name, event) in [
        ("event-ima", Event::ImaGrew { count: 9 }),
        (
            "event-progress",
            Event::Progress {
                step: Step::Latched,
                at_ms: 11_000,
            },
        ),
        (
            "event-claim",
            Event::Claim(Claim {
                code: "unlocked-by-passphrase".into(),
                detail: "at the console".into(),
            }),
        ),
    ] {
        message(name, &NodeFrame::Event { event });
    }
    let register = RegisterRequest {
        ek_public: ek.public.into(),
        ek_certificate: ek.certificate.map(Into::into),
        ak_public: ak.public.into(),
    };
    message("register", &register);
}
