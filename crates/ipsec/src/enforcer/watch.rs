//! Keeps charon as it should be: after it starts, and whenever an association comes up.

use std::time::Duration;

use tokio::time::sleep;

use super::Ipsec;
use crate::{
    ike::{Association, DEADLINE},
    vici::{within, Connection, Message},
    IpsecError,
};

/// Between two tries to reach charon.
const RETRY: Duration = Duration::from_millis(500);
/// Between two looks at the whole.
const LOOK: Duration = Duration::from_secs(3);

impl Ipsec {
    /// Runs for ever: sets everything up when charon starts, ends associations of nodes that are cut off when they come
    /// up, and looks at the whole now and then.
    pub async fn watch(&self) {
        let mut said = None;
        loop {
            let problem = match self.session(&mut said).await {
                Ok(never) => match never {},
                Err(error) => error.to_string(),
            };
            // Blocks must hold without charon as well.
            if let Err(error) = self.apply() {
                tracing::warn!(%error, "the kernel's blocks are not as they should be");
            }
            if said.as_ref() != Some(&problem) {
                tracing::warn!(problem, "charon cannot be driven; it is tried again");
                said = Some(problem);
            }
            sleep(RETRY).await;
        }
    }

    async fn session(
        &self,
        said: &mut Option<String>,
    ) -> Result<std::convert::Infallible, IpsecError> {
        let mut events = self.0.ike.connect().await?;
        within(DEADLINE, async {
            events.subscribe("ike-updown").await?;
            events.subscribe("child-updown").await
        })
        .await?;
        self.set_up().await?;
        tracing::info!(group = self.0.config.group, "charon is set up");
        *said = None;
        tokio::select! {
            failed = self.follow(events) => failed,
            failed = self.look() => failed,
        }
    }

    /// Brings charon to where it should be, from wherever it is.
    ///
    /// # Errors
    /// [`IpsecError`].
    pub async fn set_up(&self) -> Result<(), IpsecError> {
        self.apply()?;
        let crl = self.state().crl.clone();
        // Before the connections: nobody is to be let in who is on it.
        if let Some(der) = crl {
            if let Err(error) = self.0.ike.load_crl(&der).await {
                tracing::warn!(%error, "the revocation list is not loaded");
            }
        }
        let inner = &self.0;
        inner.ike.install(&inner.config, &inner.identity).await?;
        self.clean().await
    }

    async fn clean(&self) -> Result<(), IpsecError> {
        let ended = self
            .0
            .ike
            .end(|association| self.is_cut_off(association))
            .await?;
        self.learn(&self.0.ike.associations().await?);
        self.learn(&ended);
        self.apply()?;
        Ok(())
    }

    async fn look(&self) -> Result<std::convert::Infallible, IpsecError> {
        loop {
            sleep(LOOK).await;
            let inner = &self.0;
            if inner
                .ike
                .is_installed(&inner.config, &inner.identity)
                .await?
            {
                self.clean().await?;
            } else {
                tracing::warn!("somebody has unloaded what charon was given; it is given again");
                self.set_up().await?;
            }
        }
    }

    async fn follow(&self, mut events: Connection) -> Result<std::convert::Infallible, IpsecError> {
        loop {
            let (_, message) = events.event().await?;
            self.judge(&message).await?;
        }
    }

    async fn judge(&self, message: &Message) -> Result<(), IpsecError> {
        if !message.is_yes("up") {
            return Ok(());
        }
        let associations = Association::all_in(message);
        if self.learn(&associations) {
            self.apply()?;
        }
        if associations
            .iter()
            .any(|association| self.is_cut_off(association))
        {
            let ended = self
                .0
                .ike
                .end(|association| self.is_cut_off(association))
                .await?;
            tracing::warn!(
                associations = ended.len(),
                "a node that is cut off came back, and was ended"
            );
        }
        Ok(())
    }
}
