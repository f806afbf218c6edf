//! Quotes verify with the evidence crate, over just what was asked.
#![allow(clippy::unwrap_used)]

mod common;

use bootkeep_evidence::{AkPublic, QuoteError, UnverifiedQuote};
use bootkeep_swtpm::Swtpm;
use bootkeep_tpm::{AkKind, Tpm, TpmError, TpmQuote};
use common::open;

fn unverified(quote: &TpmQuote) -> UnverifiedQuote<'_> {
    UnverifiedQuote {
        attest: &quote.attest,
        signature: &quote.signature,
    }
}

fn ak(tpm: &mut Tpm) -> AkPublic {
    AkPublic::parse(&tpm.ensure_ak().unwrap().public).unwrap()
}

#[test]
fn quotes_of_both_kinds_verify_over_every_selection() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    let all: Vec<u8> = (0..24).collect();
    for kind in [AkKind::EccP256, AkKind::Rsa2048] {
        tpm.use_ak(kind);
        let ak = ak(&mut tpm);
        for selection in [&[15][..], &[0, 7, 8, 23], &all[..16], &all] {
            let quote = tpm.quote(b"nonce", selection).unwrap();
            let verified = unverified(&quote).verify(&ak, b"nonce", selection, &quote.pcrs);
            let verified = verified.unwrap();
            assert_eq!(verified.pcrs().iter().count(), selection.len());
        }
    }
}

#[test]
fn the_same_quote_answers_no_other_question() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    let ak = ak(&mut tpm);
    let quote = tpm.quote(b"nonce", &[0, 15]).unwrap();
    let other_values = vec![(0, [1; 32]), (15, [0; 32])];
    let answers = |nonce: &[u8], selection: &[u8], pcrs: &[(u8, [u8; 32])]| {
        let verified = unverified(&quote).verify(&ak, nonce, selection, pcrs);
        verified.unwrap_err()
    };
    assert_eq!(
        answers(b"other", &[0, 15], &quote.pcrs),
        QuoteError::Qualifying
    );
    assert_eq!(
        answers(b"nonce", &[0], &quote.pcrs[..1]),
        QuoteError::Selection
    );
    assert_eq!(
        answers(b"nonce", &[0, 15], &other_values),
        QuoteError::PcrDigest
    );
    let other = ak_of_another_tpm();
    let refused = unverified(&quote).verify(&other, b"nonce", &[0, 15], &quote.pcrs);
    assert_eq!(refused.unwrap_err(), QuoteError::Signature);
}

fn ak_of_another_tpm() -> AkPublic {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    ak(&mut tpm)
}

#[test]
fn an_extended_pcr_is_in_the_next_quote() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    let ak = ak(&mut tpm);
    assert_eq!(tpm.pcr_read(&[15]).unwrap(), [(15, [0; 32])]);
    tpm.pcr_extend(15, &[7; 32]).unwrap();
    let expected = bootkeep_evidence::pcr::extend(&[0; 32], &[7; 32]);
    let quote = tpm.quote(b"n", &[15]).unwrap();
    assert_eq!(quote.pcrs, [(15, expected)]);
    let verified = unverified(&quote).verify(&ak, b"n", &[15], &quote.pcrs);
    assert_eq!(verified.unwrap().pcrs().get(15), Some(&expected));
}

#[test]
fn the_clock_tells_boots_apart() {
    let mut swtpm = Swtpm::bare().unwrap();
    let clock = |swtpm: &Swtpm| {
        let mut tpm = open(swtpm);
        let ak = ak(&mut tpm);
        let quote = tpm.quote(b"n", &[0]).unwrap();
        let verified = unverified(&quote).verify(&ak, b"n", &[0], &quote.pcrs);
        verified.unwrap().clock()
    };
    let first = clock(&swtpm);
    let same = clock(&swtpm);
    assert_eq!(same.reset_count, first.reset_count);
    assert!(same.clock >= first.clock);
    swtpm.power_cycle().unwrap();
    let next = clock(&swtpm);
    assert_eq!(next.reset_count, first.reset_count + 1);
    swtpm.power_loss().unwrap();
    let after_loss = clock(&swtpm);
    assert!(after_loss.reset_count > next.reset_count);
    assert!(!after_loss.safe);
}

#[test]
fn bad_selections_are_refused() {
    let swtpm = Swtpm::bare().unwrap();
    let mut tpm = open(&swtpm);
    for selection in [&[][..], &[24], &[1, 1], &[2, 1]] {
        let refused = |error| matches!(error, TpmError::PcrSelection);
        assert!(
            refused(tpm.quote(b"n", selection).unwrap_err()),
            "{selection:?}"
        );
        assert!(
            refused(tpm.pcr_read(selection).unwrap_err()),
            "{selection:?}"
        );
        assert!(
            refused(tpm.seal(b"s", selection).unwrap_err()),
            "{selection:?}"
        );
    }
    assert!(matches!(
        tpm.pcr_extend(24, &[0; 32]),
        Err(TpmError::PcrSelection)
    ));
}
