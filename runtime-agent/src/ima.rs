//! Watches the number of entries of the IMA list: the verifier is told of growth at once.
//!
//! securityfs gives no notice of changes, so the counter is read again and again: one `pread` of a few bytes.

use std::time::Duration;

use bootkeep_node::host::{ImaCounter, KernelFiles};
use bootkeep_protocol::link::Event;
use tokio::{
    sync::mpsc,
    time::{interval, MissedTickBehavior},
};

use crate::said::Said;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Tells of growth until nobody listens. While one such event waits to be sent, more growth waits with it.
pub(crate) async fn watch(files: KernelFiles, events: mpsc::Sender<Event>) {
    match files.ima_counter() {
        Ok(counter) => look(&counter, &events).await,
        Err(error) => tracing::warn!(%error, "the kernel keeps no IMA list"),
    }
}

async fn look(counter: &ImaCounter, events: &mpsc::Sender<Event>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = Said::default();
    let mut told = 0;
    while !events.is_closed() {
        ticks.tick().await;
        match counter.read() {
            Ok(count) if count > told && tell(count, events) => told = count,
            Ok(_) => {}
            Err(error) if said.news(&error.to_string()) => {
                tracing::warn!(%error, "the IMA count cannot be read");
            }
            Err(_) => {}
        }
    }
}

/// Whether the event is on its way. Other events go first: growth is noticed by the next quote in any case.
fn tell(count: u64, events: &mpsc::Sender<Event>) -> bool {
    events.capacity() == events.max_capacity() && events.try_send(Event::ImaGrew { count }).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn files(path: &Path) -> KernelFiles {
        KernelFiles {
            ima_count: path.into(),
            ..KernelFiles::default()
        }
    }

    #[tokio::test]
    async fn growth_is_told_once_and_what_waits_is_not_repeated() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "5\n").unwrap();
        let (events, mut told) = mpsc::channel(4);
        let watching = tokio::spawn(watch(files(file.path()), events));
        assert_eq!(told.recv().await, Some(Event::ImaGrew { count: 5 }));
        fs::write(file.path(), "6\n").unwrap();
        while told.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        fs::write(file.path(), "9\n").unwrap();
        tokio::time::sleep(LOOK * 5).await;
        assert_eq!(told.len(), 1);
        assert_eq!(told.recv().await, Some(Event::ImaGrew { count: 6 }));
        assert_eq!(told.recv().await, Some(Event::ImaGrew { count: 9 }));
        drop(told);
        watching.await.unwrap();
    }

    #[tokio::test]
    async fn a_kernel_without_a_list_is_no_failure() {
        let (events, _told) = mpsc::channel(1);
        watch(files(Path::new("/does/not/exist")), events).await;
    }
}
