//! Challenges that wait for their answer. Each is answered once, in time, or not at all.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bootkeep_protocol::{
    limits::CHALLENGE_SECONDS,
    registrar::{activation_message, ActivateRequest},
    NodeId,
};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{candidate::Candidate, Refusal, RegistrarError};

/// Challenges in memory, each of some kilobytes.
const MAX_WAITING: usize = 8192;
/// Challenges for one EK: its public half is no secret, so strangers may ask for challenges in its name.
const MAX_FOR_EK: usize = 16;
const LIFE: Duration = Duration::from_secs(CHALLENGE_SECONDS);

/// What a credential carries.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

struct Waiting {
    candidate: Candidate,
    secret: Secret,
    made: Instant,
}

/// A node that proved that its AK lives in the TPM of its EK. Only [`Challenges::answer`] makes one.
#[derive(Debug)]
pub(crate) struct Proven(Candidate);

impl Proven {
    pub(crate) fn candidate(&self) -> &Candidate {
        &self.0
    }
}

/// The challenges that wait, by their ids.
#[derive(Default)]
pub(crate) struct Challenges(Mutex<HashMap<String, Waiting>>);

pub(crate) fn random() -> Result<Secret, RegistrarError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|_| RegistrarError::Random)?;
    Ok(bytes)
}

impl Challenges {
    /// Remembers a challenge until it is answered or too old.
    pub(crate) fn put(
        &self,
        id: String,
        secret: Secret,
        candidate: Candidate,
        now: Instant,
    ) -> Result<(), Refusal> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING {
            waiting.retain(|_, challenge| challenge.is_fresh(now));
        }
        let same_ek = waiting.values().filter(|challenge| {
            challenge.candidate.node_id == candidate.node_id && challenge.is_fresh(now)
        });
        if waiting.len() >= MAX_WAITING || same_ek.count() >= MAX_FOR_EK {
            return Err(Refusal::Busy);
        }
        waiting.insert(
            id,
            Waiting {
                candidate,
                secret,
                made: now,
            },
        );
        Ok(())
    }

    /// Takes the answer. The challenge is gone afterwards, whatever the answer was.
    pub(crate) fn answer(
        &self,
        node: &NodeId,
        answer: &ActivateRequest,
        now: Instant,
    ) -> Result<Proven, Refusal> {
        let challenge = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&answer.challenge_id)
            .filter(|challenge| challenge.is_fresh(now) && &challenge.candidate.node_id == node)
            .ok_or(Refusal::NoChallenge)?;
        challenge.check(answer)?;
        Ok(Proven(challenge.candidate))
    }
}

impl Waiting {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.made) < LIFE
    }

    /// Compares in constant time (A13).
    fn check(&self, answer: &ActivateRequest) -> Result<(), Refusal> {
        let message = activation_message(&answer.challenge_id, &self.candidate.node_id);
        Hmac::<Sha256>::new_from_slice(self.secret.as_slice())
            .map_err(|_| Refusal::Proof)?
            .chain_update(message)
            .verify_slice(answer.proof.as_slice())
            .map_err(|_| Refusal::Proof)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bootkeep_protocol::registrar::EkAssurance;

    use super::*;

    fn candidate(ek: &[u8]) -> Candidate {
        Candidate {
            node_id: NodeId::of_ek_public(ek),
            ek_key: hex::encode(ek),
            ek_public: ek.to_vec(),
            ek_certificate: None,
            ak_public: vec![1],
            assurance: EkAssurance::Approval {
                note: String::new(),
            },
        }
    }

    fn answer(id: &str, secret: &Secret, node: &NodeId) -> ActivateRequest {
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_slice()).unwrap();
        let proof = mac.chain_update(activation_message(id, node)).finalize();
        ActivateRequest {
            challenge_id: id.into(),
            proof: proof.into_bytes().to_vec().into(),
        }
    }

    struct Case {
        challenges: Challenges,
        secret: Secret,
        node: NodeId,
        start: Instant,
    }

    fn case() -> Case {
        let (challenges, secret, start) =
            (Challenges::default(), random().unwrap(), Instant::now());
        challenges
            .put("a".into(), secret.clone(), candidate(b"ek"), start)
            .unwrap();
        Case {
            challenges,
            secret,
            node: NodeId::of_ek_public(b"ek"),
            start,
        }
    }

    #[test]
    fn the_right_answer_counts_once() {
        let case = case();
        let right = answer("a", &case.secret, &case.node);
        let proven = case
            .challenges
            .answer(&case.node, &right, case.start)
            .unwrap();
        assert_eq!(proven.candidate().ek_public, b"ek");
        let again = case.challenges.answer(&case.node, &right, case.start);
        assert!(matches!(again, Err(Refusal::NoChallenge)));
    }

    #[test]
    fn a_wrong_answer_uses_the_challenge_up() {
        for cut in [0, 1, 31, 33] {
            let case = case();
            let right = answer("a", &case.secret, &case.node);
            let mut wrong = right.clone();
            wrong.proof.0.resize(cut, 0);
            let refused = case.challenges.answer(&case.node, &wrong, case.start);
            assert!(matches!(refused, Err(Refusal::Proof)), "{cut}");
            let late = case.challenges.answer(&case.node, &right, case.start);
            assert!(matches!(late, Err(Refusal::NoChallenge)), "{cut}");
        }
    }

    #[test]
    fn a_challenge_is_for_one_node_and_a_short_time() {
        let other = NodeId::of_ek_public(b"other");
        let fresh = case();
        let for_other = answer("a", &fresh.secret, &other);
        assert!(fresh
            .challenges
            .answer(&other, &for_other, fresh.start)
            .is_err());
        for (seconds, good) in [(CHALLENGE_SECONDS - 1, true), (CHALLENGE_SECONDS, false)] {
            let case = case();
            let right = answer("a", &case.secret, &case.node);
            let when = case.start + Duration::from_secs(seconds);
            assert_eq!(
                case.challenges.answer(&case.node, &right, when).is_ok(),
                good,
                "{seconds}"
            );
        }
    }

    #[test]
    fn one_ek_and_all_together_have_a_limit_and_time_frees_it() {
        let challenges = Challenges::default();
        let start = Instant::now();
        let put = |id: usize, ek: &[u8], now| {
            challenges.put(id.to_string(), random().unwrap(), candidate(ek), now)
        };
        for id in 0..MAX_FOR_EK {
            put(id, b"ek", start).unwrap();
        }
        assert!(matches!(put(MAX_FOR_EK, b"ek", start), Err(Refusal::Busy)));
        put(MAX_FOR_EK, b"ek", start + LIFE).unwrap();
        for id in MAX_FOR_EK + 1..MAX_WAITING {
            put(id, &id.to_be_bytes(), start).unwrap();
        }
        assert!(matches!(
            put(MAX_WAITING, b"new", start),
            Err(Refusal::Busy)
        ));
        put(MAX_WAITING, b"new", start + LIFE).unwrap();
    }
}
