//! JSON requests to a service.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bootkeep_protocol::{
    limits::{clean_text, MAX_FRAME},
    problem::PROBLEM_JSON,
    Problem, ProblemKind, Role,
};
use http::{header, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1::{handshake, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::{de::DeserializeOwned, Serialize};
use tokio::time::{timeout, Instant};

use crate::{connect::connect, target::Target, ClientTls, TlsError};

type Connection = SendRequest<Full<Bytes>>;

/// Idle connections kept for each server.
const IDLE_PER_SERVER: usize = 4;
/// How long one is kept: less than a service waits for the next request, so that a request seldom meets a closing door.
const IDLE: Duration = Duration::from_secs(5);

/// A connection that waits for its next request.
struct Idle {
    since: Instant,
    connection: Connection,
}

/// Why a request gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The service refused.
    #[error("{0}")]
    Refused(Problem),
    /// No answer came: no name, no connection, no trust in the certificate, or no time left.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The URL or the request's body is not good.
    #[error("the request cannot be made: {0}")]
    Request(String),
    /// An answer came that is not what this service answers.
    #[error("the answer cannot be read: {0}")]
    Answer(String),
    /// The TLS material is not good.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl HttpError {
    /// The error of a service that could not be reached.
    #[must_use]
    pub fn unreachable(text: impl Into<String>) -> Self {
        Self::Unreachable(text.into())
    }

    /// Whether the service has given its word and asking again is no use.
    ///
    /// False for `busy`, `unavailable` and `internal`: those pass.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        use ProblemKind::{Busy, Internal, Unavailable};
        match self {
            Self::Refused(problem) => !matches!(problem.kind, Busy | Internal | Unavailable),
            _ => false,
        }
    }

    /// The refusal, when the service sent one.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }
}

/// Asks services of one role. Cheap to clone; connections are kept and used again.
#[derive(Clone, Debug)]
pub struct HttpClient {
    tls: ClientTls,
    server: Role,
    deadline: Duration,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    idle: Mutex<HashMap<String, Vec<Idle>>>,
    config: Mutex<Option<Arc<ClientConfig>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connections")
    }
}

impl HttpClient {
    /// How long a request may take unless [`with_deadline`](Self::with_deadline) says otherwise.
    pub const DEADLINE: Duration = Duration::from_secs(75);

    /// A client for services whose certificates carry the role `server`.
    #[must_use]
    pub fn new(tls: ClientTls, server: Role) -> Self {
        Self {
            tls,
            server,
            deadline: Self::DEADLINE,
            shared: Arc::default(),
        }
    }

    /// The same client with another deadline for each request.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// `GET url`.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, HttpError> {
        self.ask(Method::GET, url, Bytes::new()).await
    }

    /// `POST url` with a JSON body. An empty answer reads as `null`: ask for `()`.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        url: &str,
        body: &impl Serialize,
    ) -> Result<T, HttpError> {
        self.ask(Method::POST, url, to_json(body)?).await
    }

    /// `PUT url` with a JSON body. An empty answer reads as `null`: ask for `()`.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn put<T: DeserializeOwned>(
        &self,
        url: &str,
        body: &impl Serialize,
    ) -> Result<T, HttpError> {
        self.ask(Method::PUT, url, to_json(body)?).await
    }

    /// `DELETE url`; the answer's body does not matter.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn delete(&self, url: &str) -> Result<(), HttpError> {
        self.exchange(Method::DELETE, url, Bytes::new())
            .await
            .map(drop)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        url: &str,
        body: Bytes,
    ) -> Result<T, HttpError> {
        let answer = self.exchange(method, url, body).await?;
        let text: &[u8] = if answer.is_empty() { b"null" } else { &answer };
        serde_json::from_slice(text).map_err(|error| {
            HttpError::Answer(format!(
                "not the JSON expected, at line {}, column {}",
                error.line(),
                error.column()
            ))
        })
    }

    async fn exchange(&self, method: Method, url: &str, body: Bytes) -> Result<Bytes, HttpError> {
        let target = Target::parse(url).map_err(HttpError::Request)?;
        timeout(self.deadline, self.attempt(&target, &method, body))
            .await
            .unwrap_or_else(|_| {
                let seconds = self.deadline.as_secs();
                let server = &target.authority;
                Err(HttpError::Unreachable(format!(
                    "{server}: no answer in {seconds} s"
                )))
            })
    }

    async fn attempt(
        &self,
        target: &Target,
        method: &Method,
        body: Bytes,
    ) -> Result<Bytes, HttpError> {
        let broke =
            |error: hyper::Error| HttpError::Unreachable(format!("{}: {error}", target.authority));
        let mut request = build(target, method, body)?;
        while let Some(mut kept) = self.take_idle(target) {
            match kept.try_send_request(request).await {
                Ok(response) => return self.finish(target, kept, response).await,
                // The server closed a kept connection and has not seen the request: it goes out on the next.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(broke(error.into_error())),
                },
            }
        }
        let mut fresh = self.connect(target).await?;
        let response = fresh.send_request(request).await.map_err(broke)?;
        self.finish(target, fresh, response).await
    }

    async fn finish(
        &self,
        target: &Target,
        mut connection: Connection,
        response: Response<Incoming>,
    ) -> Result<Bytes, HttpError> {
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_FRAME)
            .collect()
            .await
            .map_err(|error| HttpError::Answer(format!("{}: {error}", target.authority)))?
            .to_bytes();
        if connection.ready().await.is_ok() {
            self.keep(target, connection);
        }
        if parts.status.is_success() {
            return Ok(body);
        }
        Err(refusal(parts.status, &parts.headers, &body))
    }

    async fn connect(&self, target: &Target) -> Result<Connection, HttpError> {
        let stream = connect(target, &self.config()?)
            .await
            .map_err(HttpError::Unreachable)?;
        let (sender, driver) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| HttpError::Unreachable(format!("{}: {error}", target.authority)))?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        Ok(sender)
    }

    fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut config = lock(&self.shared.config);
        if let Some(config) = &*config {
            return Ok(Arc::clone(config));
        }
        Ok(Arc::clone(config.insert(self.tls.config(self.server)?)))
    }

    fn take_idle(&self, target: &Target) -> Option<Connection> {
        let mut idle = lock(&self.shared.idle);
        let kept = idle.get_mut(&target.authority)?;
        kept.retain(|kept| kept.since.elapsed() < IDLE && !kept.connection.is_closed());
        kept.pop().map(|kept| kept.connection)
    }

    fn keep(&self, target: &Target, connection: Connection) {
        let mut idle = lock(&self.shared.idle);
        let kept = idle.entry(target.authority.clone()).or_default();
        if kept.len() < IDLE_PER_SERVER {
            kept.push(Idle {
                since: Instant::now(),
                connection,
            });
        }
    }
}

/// What is kept is whole after any panic.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn to_json(body: &impl Serialize) -> Result<Bytes, HttpError> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|error| HttpError::Request(error.to_string()))
}

fn build(target: &Target, method: &Method, body: Bytes) -> Result<Request<Full<Bytes>>, HttpError> {
    let mut request = Request::builder()
        .method(method)
        .uri(&target.path)
        .header(header::HOST, &target.authority)
        .header(header::ACCEPT, "application/json");
    if matches!(*method, Method::POST | Method::PUT) {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    request
        .body(Full::new(body))
        .map_err(|error| HttpError::Request(error.to_string()))
}

/// A problem document, or what can be said without one.
fn refusal(status: StatusCode, headers: &http::HeaderMap, body: &[u8]) -> HttpError {
    let is_problem = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(PROBLEM_JSON.as_bytes()));
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) if is_problem => HttpError::Refused(Problem {
            title: clean_text(&problem.title),
            code: clean_text(&problem.code),
            detail: clean_text(&problem.detail),
            ..problem
        }),
        _ => HttpError::Answer(format!("status {status} without a problem document")),
    }
}
