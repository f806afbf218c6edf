//! The daemon's part: tells the verifier what the report says, over each new link and after each change.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bootkeep_protocol::{
    boot_files::{BootFiles, MAX_BOOT_FILES, MAX_BOOT_PATH},
    link::Event,
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use crate::said::Said;

/// Between two looks at the file.
const LOOK: Duration = Duration::from_secs(2);
/// Largest report that is read (bytes).
const MAX_REPORT: u64 = 64 * 1024;

/// What tells one state of the file from the next: it is always replaced, never written in place.
type Stamp = (u64, i64, i64, u64);

fn stamp(metadata: &Metadata) -> Stamp {
    (
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.len(),
    )
}

/// Reports until nobody listens.
pub(crate) async fn report(
    path: PathBuf,
    events: mpsc::Sender<Event>,
    mut linked: watch::Receiver<bool>,
) {
    let (mut told, mut said) = (None::<Stamp>, Said::default());
    while linked.wait_for(|&up| up).await.is_ok() {
        match news(&path, told) {
            Ok(Some((report, stamp))) => {
                if events.send(Event::BootFiles(report)).await.is_err() {
                    return;
                }
                told = Some(stamp);
                said.clear();
            }
            Ok(None) => {}
            Err(error) if said.news(&error.to_string()) => {
                tracing::warn!(%error, path = %path.display(), "the report of boot files cannot be read");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            changed = linked.changed() => match changed {
                // The other end of a new link may not have heard of it.
                Ok(()) => told = None,
                Err(_) => return,
            }
        }
    }
}

/// The report, when it is another than the one told last.
fn news(path: &Path, told: Option<Stamp>) -> io::Result<Option<(BootFiles, Stamp)>> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let stamp = stamp(&metadata);
    if told == Some(stamp) {
        return Ok(None);
    }
    Ok(Some((read(path)?, stamp)))
}

fn read(path: &Path) -> io::Result<BootFiles> {
    let mut text = Vec::new();
    File::open(path)?
        .take(MAX_REPORT + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > MAX_REPORT {
        return Err(io::Error::other(format!("larger than {MAX_REPORT} bytes")));
    }
    let report: BootFiles = serde_json::from_slice(&text)?;
    let too_long = |path: &str| path.len() > MAX_BOOT_PATH;
    if report.files.len() > MAX_BOOT_FILES || report.files.iter().any(|file| too_long(&file.path)) {
        return Err(io::Error::other("more than a report may hold"));
    }
    Ok(report)
}
