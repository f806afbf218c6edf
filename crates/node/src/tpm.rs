//! The TPM on a thread of its own: its library blocks, the agents' only other thread must not.

use std::{path::Path, sync::mpsc, thread, time::Duration};

use bootkeep_tpm::{Tcti, Tpm, TpmError};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce(&mut Tpm) + Send>;

/// A handle to the TPM's thread. Dropping the last one closes the TPM.
#[derive(Clone, Debug)]
pub struct TpmThread {
    jobs: mpsc::Sender<Job>,
}

/// The TPM's thread has ended.
#[derive(Debug, thiserror::Error)]
#[error("the TPM's thread has ended")]
pub struct TpmGone;

impl TpmThread {
    /// Opens the TPM, trying for `patience`: its driver may still be loading.
    ///
    /// # Errors
    /// The last error of opening, or of starting the thread.
    pub async fn open(device: &Path, patience: Duration) -> Result<Self, TpmError> {
        Self::open_at(Tcti::Device(device.to_owned()), patience).await
    }

    /// As [`open`](Self::open), by any way to a TPM.
    ///
    /// # Errors
    /// The last error of opening, or of starting the thread.
    pub async fn open_at(way: Tcti, patience: Duration) -> Result<Self, TpmError> {
        let (opened, result) = oneshot::channel();
        let (jobs, queue) = mpsc::channel::<Job>();
        let run = move || {
            match open_patiently(&way, patience) {
                Ok(mut tpm) => {
                    // The receiver is gone only when the caller has given up.
                    if opened.send(Ok(())).is_ok() {
                        queue.into_iter().for_each(|job| job(&mut tpm));
                    }
                }
                Err(error) => drop(opened.send(Err(error))),
            };
        };
        thread::Builder::new()
            .name("tpm".into())
            .spawn(run)
            .map_err(TpmError::from)?;
        result
            .await
            .map_err(|_| TpmError::from(std::io::Error::other("the TPM's thread ended")))??;
        Ok(Self { jobs })
    }

    /// Runs `job` on the TPM and gives what it returned.
    ///
    /// # Errors
    /// [`TpmGone`] when the thread has ended.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tpm) -> T + Send + 'static,
    ) -> Result<T, TpmGone> {
        let (answer, result) = oneshot::channel();
        self.jobs
            .send(Box::new(move |tpm| drop(answer.send(job(tpm)))))
            .map_err(|_| TpmGone)?;
        result.await.map_err(|_| TpmGone)
    }
}

fn open_patiently(way: &Tcti, patience: Duration) -> Result<Tpm, TpmError> {
    const PAUSE: Duration = Duration::from_millis(100);
    let mut left = patience;
    loop {
        match Tpm::open(way) {
            Ok(tpm) => return Ok(tpm),
            Err(error) if left < PAUSE => return Err(error),
            Err(_) => {
                thread::sleep(PAUSE);
                left -= PAUSE;
            }
        }
    }
}
