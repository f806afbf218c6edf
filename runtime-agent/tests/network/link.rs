//! A node's link to the verifier, from inside its network namespace. What comes over it about revocations goes to the
//! node's enforcer, as the daemon's relay does it.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicUsize, Ordering},
        Arc, Mutex, MutexGuard,
    },
    time::{Duration, Instant},
};

use bootkeep_link::ClientTls;
use bootkeep_protocol::{
    link::{Outcome, Reply},
    revocation::{Done, RevocationsCall, RevocationsReply},
    NodeId, Problem, ProblemKind,
};
use bootkeep_runtime_agent::enforce::wire::Told;

use crate::{
    common::{machine::Machine, node::Node, peer::Peer},
    inside::enter,
};

/// Between two tries to reach the verifier.
const RETRY: Duration = Duration::from_millis(500);

/// Lives as long as the process.
#[derive(Clone, Default)]
pub(crate) struct Link(Arc<State>);

#[derive(Default)]
struct State {
    answers: Mutex<Vec<Answer>>,
    ended: AtomicUsize,
}

/// What the enforcer answered, and when it was asked.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) asked: Instant,
    pub(crate) outcome: Outcome,
    /// Whether the call brought a list of the CA.
    pub(crate) list: bool,
}

impl Link {
    /// Links the machine that runs, from this namespace (here when none), and again whenever it ends.
    pub(crate) fn start(
        namespace: Option<&str>,
        way: (ClientTls, String),
        machine: Machine,
        socket: PathBuf,
    ) -> Self {
        let link = Self::default();
        let (copy, namespace) = (link.clone(), namespace.map(str::to_owned));
        std::thread::spawn(move || {
            if let Some(namespace) = namespace {
                enter(&namespace);
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(copy.go_on(way, machine, socket));
        });
        link
    }

    async fn go_on(&self, (tls, url): (ClientTls, String), machine: Machine, socket: PathBuf) {
        loop {
            let (link, id, path) = (self.clone(), machine.node.clone(), socket.clone());
            let peer = Peer::asking(move |call| link.hand_on(&path, &id, call));
            let (tls, url, machine) = (tls.clone(), url.clone(), machine.clone());
            // Where there is no way the dialling panics, in its task.
            let served = tokio::spawn(async move {
                match Node::connect_as(&tls, &url, &machine, &peer).await {
                    Ok(node) => node.ended().await,
                    Err(refused) => Some(refused),
                }
            });
            let _ = served.await;
            self.0.ended.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(RETRY).await;
        }
    }

    fn hand_on(&self, socket: &Path, id: &NodeId, call: &RevocationsCall) -> Outcome {
        let asked = Instant::now();
        let outcome = ask(socket, id, call).unwrap_or_else(|error| {
            let away = Problem::new(ProblemKind::Unavailable, "enforcer-away", error.to_string());
            Outcome::Refused(away)
        });
        self.answers().push(Answer {
            asked,
            outcome: outcome.clone(),
            list: call.crl.is_some(),
        });
        outcome
    }

    fn answers(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.0.answers.lock().unwrap()
    }

    /// What the enforcer refused.
    pub(crate) fn refused(&self) -> Vec<Problem> {
        let refused = |answer: &Answer| match &answer.outcome {
            Outcome::Refused(problem) => Some(problem.clone()),
            Outcome::Ok(_) => None,
        };
        self.answers().iter().filter_map(refused).collect()
    }

    fn replies(&self) -> Vec<(Instant, RevocationsReply)> {
        let reply = |answer: &Answer| match &answer.outcome {
            Outcome::Ok(Reply::Revocations(reply)) => Some((answer.asked, reply.clone())),
            _ => None,
        };
        self.answers().iter().filter_map(reply).collect()
    }

    /// The last entry that the enforcer acknowledged.
    pub(crate) fn holds(&self) -> u64 {
        self.replies().last().map_or(0, |(_, reply)| reply.sequence)
    }

    /// When the enforcer had this entry enforced, and how: it says itself how long it took. Its answer comes later, when
    /// the entry is on its disk.
    pub(crate) fn done(&self, sequence: u64) -> Option<(Instant, Done)> {
        let replies = self.replies();
        let mut all = replies
            .iter()
            .flat_map(|(asked, reply)| reply.done.iter().map(move |done| (*asked, done)));
        let (asked, done) = all.find(|(_, done)| done.sequence == sequence)?;
        Some((asked + Duration::from_micros(done.took_us), done.clone()))
    }

    /// Entries in the order in which they were done.
    pub(crate) fn sequences(&self) -> Vec<u64> {
        let all = self.replies().into_iter().flat_map(|(_, reply)| reply.done);
        all.map(|done| done.sequence).collect()
    }

    pub(crate) fn has_list(&self) -> bool {
        self.answers().iter().any(|answer| answer.list)
    }

    /// Links that ended, and tries that failed.
    pub(crate) fn ended(&self) -> usize {
        self.0.ended.load(Ordering::SeqCst)
    }
}

fn ask(socket: &Path, id: &NodeId, call: &RevocationsCall) -> std::io::Result<Outcome> {
    let mut stream = UnixStream::connect(socket)?;
    let told = Told {
        node_id: id.clone(),
        call: call.clone(),
    };
    stream.write_all((serde_json::to_string(&told)? + "\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
