//! What is asked of charon.

mod association;
mod connections;

use std::{path::PathBuf, time::Duration};

use crate::{
    config::{Config, Start},
    identity::Identity,
    vici::{within, Connection, Message, ViciError},
};

pub use association::Association;
pub(crate) use connections::is_ours;

/// How long charon may take for one of the tasks below, all its requests together.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// How often associations that should end are looked for: new ones may come while old ones end.
const ROUNDS: usize = 3;

/// The IKE daemon of this machine.
#[derive(Clone, Debug)]
pub struct Ike {
    vici: PathBuf,
}

impl Ike {
    /// The one that listens on this socket.
    #[must_use]
    pub fn at(vici: impl Into<PathBuf>) -> Self {
        Self { vici: vici.into() }
    }

    /// A connection.
    ///
    /// # Errors
    /// [`ViciError::Connect`], [`ViciError::Deadline`].
    pub async fn connect(&self) -> Result<Connection, ViciError> {
        within(DEADLINE, Connection::open(&self.vici)).await
    }

    /// Loads authorities, key and connections, and unloads those of our names that are not in the configuration any more.
    /// What is loaded already and has not changed is left alone, with its associations.
    ///
    /// # Errors
    /// [`ViciError`].
    pub async fn install(&self, config: &Config, identity: &Identity) -> Result<(), ViciError> {
        within(DEADLINE * 5, self.do_install(config, identity)).await
    }

    async fn do_install(&self, config: &Config, identity: &Identity) -> Result<(), ViciError> {
        let mut charon = self.connect().await?;
        for authority in &identity.authorities {
            charon
                .request("load-cert", &certificate("X509", "CA", authority))
                .await?;
        }
        let key = Message::new()
            .with("type", "any")
            .with("data", identity.key());
        charon.request("load-key", &key).await?;
        let wanted = connections::of(config, identity);
        for (name, connection) in &wanted {
            let message = Message::new().with_section(name, connection.clone());
            charon.request("load-conn", &message).await?;
        }
        let loaded = charon.request("get-conns", &Message::new()).await?;
        let is_stale = |name: &&str| is_ours(name) && !wanted.iter().any(|(w, _)| w == name);
        for name in loaded.list("conns").filter(is_stale) {
            let message = Message::new().with("name", name);
            charon.request("unload-conn", &message).await?;
        }
        check_policies(&mut charon, &wanted).await
    }

    /// Whether charon still has the connections and a private key. `swanctl --load-all`, which Debian's unit runs when charon
    /// has started, unloads all that is not in swanctl's own files.
    ///
    /// # Errors
    /// [`ViciError`].
    pub async fn is_installed(
        &self,
        config: &Config,
        identity: &Identity,
    ) -> Result<bool, ViciError> {
        within(DEADLINE, async {
            let mut charon = self.connect().await?;
            let loaded = charon.request("get-conns", &Message::new()).await?;
            let keys = charon.request("get-keys", &Message::new()).await?;
            let all = connections::of(config, identity)
                .iter()
                .all(|(name, _)| loaded.list("conns").any(|found| found == name));
            Ok(all && keys.list("keys").next().is_some())
        })
        .await
    }

    /// Loads a revocation list (DER) and forgets what was found about certificates before.
    ///
    /// # Errors
    /// [`ViciError`].
    pub async fn load_crl(&self, der: &[u8]) -> Result<(), ViciError> {
        within(DEADLINE, async {
            let mut charon = self.connect().await?;
            charon
                .request("load-cert", &certificate("X509_CRL", "NONE", der))
                .await?;
            charon.request("flush-certs", &Message::new()).await?;
            Ok(())
        })
        .await
    }

    /// Every association, half-open ones as well.
    ///
    /// # Errors
    /// [`ViciError`].
    pub async fn associations(&self) -> Result<Vec<Association>, ViciError> {
        within(DEADLINE, async { list(&mut self.connect().await?).await }).await
    }

    /// Ends those associations that are told by `is_one`, at once, and looks again until there are none. Connections and
    /// the policies that demand IPsec stay. Gives those that were ended.
    ///
    /// # Errors
    /// [`ViciError`]; [`ViciError::Refused`] when some are still there.
    pub async fn end(
        &self,
        is_one: impl Fn(&Association) -> bool,
    ) -> Result<Vec<Association>, ViciError> {
        within(DEADLINE, self.do_end(is_one)).await
    }

    async fn do_end(
        &self,
        is_one: impl Fn(&Association) -> bool,
    ) -> Result<Vec<Association>, ViciError> {
        let mut charon = self.connect().await?;
        let mut ended: Vec<Association> = Vec::new();
        for _ in 0..ROUNDS {
            let mut left = list(&mut charon).await?;
            left.retain(|association| is_one(association));
            if left.is_empty() {
                return Ok(ended);
            }
            for association in left {
                terminate(&mut charon, association.id).await?;
                if ended.iter().all(|other| other.id != association.id) {
                    ended.push(association);
                }
            }
        }
        Err(ViciError::Refused {
            command: "terminate".into(),
            reason: "associations come back as fast as they are ended".into(),
        })
    }

    /// Begins the associations with the listed peers that are told by `is_one`, if they are to be there at all times.
    ///
    /// # Errors
    /// [`ViciError`].
    pub async fn begin(
        &self,
        config: &Config,
        is_one: impl Fn(&crate::config::GroupPeer) -> bool,
    ) -> Result<(), ViciError> {
        if config.start != Start::AtOnce {
            return Ok(());
        }
        within(DEADLINE, async {
            let mut charon = self.connect().await?;
            for peer in config.peers.iter().filter(|peer| is_one(peer)) {
                for address in &peer.addresses {
                    let name = connections::name_of(config, *address);
                    // Without waiting for the peer.
                    let message = Message::new()
                        .with("ike", &name)
                        .with("child", &name)
                        .with("timeout", "-1");
                    charon.request("initiate", &message).await?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// charon says `success` when a connection is loaded but its policies cannot be installed.
async fn check_policies(
    charon: &mut Connection,
    wanted: &[(String, Message)],
) -> Result<(), ViciError> {
    let all = Message::new().with("trap", "yes").with("pass", "yes");
    let items = charon.stream("list-policies", "list-policy", &all).await?;
    let installed: Vec<&str> = items
        .iter()
        .flat_map(Message::sections)
        .filter(|(_, policy)| has_both_ends(policy))
        .filter_map(|(_, policy)| policy.text("child"))
        .collect();
    let children = wanted
        .iter()
        .filter_map(|(_, connection)| connection.section("children"));
    let missing = children
        .flat_map(Message::sections)
        .find(|(child, _)| !installed.contains(child));
    match missing {
        None => Ok(()),
        Some((child, _)) => Err(ViciError::Refused {
            command: "load-conn".into(),
            reason: format!("no policies were installed for {child}; see charon's log"),
        }),
    }
}

/// With ends of two families charon lists policies that the kernel does not have.
fn has_both_ends(policy: &Message) -> bool {
    let is_ipv6 = |name| policy.list(name).any(|end| end.contains(':'));
    is_ipv6("local-ts") == is_ipv6("remote-ts")
}

fn certificate(kind: &str, flag: &str, der: &[u8]) -> Message {
    Message::new()
        .with("type", kind)
        .with("flag", flag)
        .with("data", der)
}

async fn list(charon: &mut Connection) -> Result<Vec<Association>, ViciError> {
    let items = charon
        .stream("list-sas", "list-sa", &Message::new())
        .await?;
    Ok(items.iter().flat_map(Association::all_in).collect())
}

/// `force` destroys it without waiting for the peer. One that is gone already is not an error.
async fn terminate(charon: &mut Connection, id: u32) -> Result<(), ViciError> {
    let message = Message::new()
        .with("ike-id", id.to_string())
        .with("force", "yes")
        .with("timeout", "-1");
    match charon.request("terminate", &message).await {
        Ok(_) | Err(ViciError::Refused { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
