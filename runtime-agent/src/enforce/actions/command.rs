//! Runs one program, without a shell, for a time, with a bounded memory of what it says.

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use bootkeep_protocol::limits::clean_text;
use nix::{
    sys::signal::{killpg, Signal},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::{timeout, timeout_at, Instant},
};

use super::Occasion;

/// How long a killed process may take to be gone.
const GRACE: Duration = Duration::from_secs(5);
/// What of a program's words is kept (bytes).
const MAX_OUTPUT: usize = 4096;
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the command until `end`; then its whole process group is killed.
pub(super) async fn run(argv: &[String], occasion: &Occasion, end: Instant) -> Result<(), String> {
    let (program, words) = argv.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command
        .args(words)
        .env_clear()
        .env("PATH", PATH)
        .envs(occasion.variables())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let mut group = Group(child.id());
    let said = tokio::spawn(listen(child.stdout.take(), child.stderr.take()));
    let ended = timeout_at(end, child.wait()).await;
    // What it left running goes with it: a service is a unit's business.
    group.kill();
    let said = timeout(GRACE, said)
        .await
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default();
    match ended {
        Ok(status) => judge(program, status.map_err(|error| error.to_string())?, &said),
        Err(_) => Err(reap(child, program).await),
    }
}

async fn reap(mut child: Child, program: &str) -> String {
    let gone = timeout(GRACE, child.wait()).await.is_ok();
    let end = if gone { "was ended" } else { "does not end" };
    format!("{program} took too long and {end}")
}

fn judge(program: &str, status: ExitStatus, said: &str) -> Result<(), String> {
    if !said.is_empty() {
        tracing::info!(program, said, "said by an action");
    }
    match status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {status}: {said}")),
    }
}

/// The process group of a child: it has the child's number.
struct Group(Option<u32>);

impl Group {
    fn kill(&mut self) {
        let id = self.0.take().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id.filter(|id| *id > 1) {
            // No such group: everybody is gone.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The beginning of what comes from both, as one line. The rest is read and forgotten: a talkative program is not held up.
async fn listen(
    out: Option<impl AsyncRead + Unpin>,
    err: Option<impl AsyncRead + Unpin>,
) -> String {
    let (out, err) = tokio::join!(beginning(out), beginning(err));
    let text = [out, err].concat();
    clean_text(String::from_utf8_lossy(&text).trim())
}

async fn beginning(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else {
        return kept;
    };
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let room = MAX_OUTPUT - kept.len();
        kept.extend_from_slice(&buffer[..length.min(room)]);
    }
    kept
}
