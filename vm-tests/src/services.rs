//! The owner's services, as the real programs.

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{bail, Result};

use crate::{command::Background, owner::Owner};

/// One of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Who is who.
    Registrar,
    /// Who is trusted.
    Verifier,
    /// Certificates of nodes.
    Ca,
}

impl Service {
    const ALL: [Self; 3] = [Self::Registrar, Self::Verifier, Self::Ca];

    /// Its name, and that of its folder in the owner's home.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Registrar => "registrar",
            Self::Verifier => "verifier",
            Self::Ca => "ca",
        }
    }

    /// Its port, as `bootkeep init` sets it.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Registrar => 8890,
            Self::Verifier => 8891,
            Self::Ca => 8892,
        }
    }
}

/// All three, running. They are ended when this is dropped.
#[derive(Debug)]
pub struct Services {
    owner: Owner,
    logs: PathBuf,
    running: Vec<(Service, Background)>,
}

impl Services {
    /// Starts them with the owner's configuration; their logs go to `logs`.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start(owner: &Owner, logs: &Path) -> Result<Self> {
        let mut services = Self {
            owner: owner.clone(),
            logs: logs.into(),
            running: Vec::new(),
        };
        Service::ALL
            .into_iter()
            .try_for_each(|service| services.start_one(service))?;
        Ok(services)
    }

    /// Stops one, as an operator does, and starts it again.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self, service: Service) -> Result<()> {
        self.stop(service);
        self.start_one(service)
    }

    /// Ends one without a word (SIGKILL) and starts it again.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn crash(&mut self, service: Service) -> Result<()> {
        if let Some((_, process)) = self.running.iter_mut().find(|(known, _)| *known == service) {
            process.kill();
        }
        self.running.retain(|(known, _)| *known != service);
        self.start_one(service)
    }

    /// Waits for the service's next write to its store; says whether there was one in this time.
    #[must_use]
    pub fn wait_for_write(&self, service: Service, limit: Duration) -> bool {
        let store = self.store(service);
        let before = changed(&store);
        let end = Instant::now() + limit;
        while changed(&store) == before {
            if Instant::now() > end {
                return false;
            }
            thread::sleep(Duration::from_micros(200));
        }
        true
    }

    /// The same, and ends the service without a word as soon as the write is seen, and starts it again.
    ///
    /// # Errors
    /// When it does not come up again.
    pub fn crash_at_write(&mut self, service: Service, limit: Duration) -> Result<bool> {
        let written = self.wait_for_write(service, limit);
        if written {
            self.crash(service)?;
        }
        Ok(written)
    }

    /// Where each commit of the service's store goes first.
    fn store(&self, service: Service) -> PathBuf {
        let name = service.name();
        let file = format!("{name}.db-wal");
        self.owner.home.join(name).join(file)
    }

    /// Stops one.
    pub fn stop(&mut self, service: Service) {
        if let Some((_, process)) = self.running.iter_mut().find(|(known, _)| *known == service) {
            process.stop();
        }
        self.running.retain(|(known, _)| *known != service);
    }

    /// Starts one that is stopped.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_one(&mut self, service: Service) -> Result<()> {
        let name = service.name();
        if answers(service) {
            bail!(
                "something else answers on port {} of the {name}",
                service.port()
            );
        }
        let mut command = Command::new(self.owner.programs.join(format!("bootkeep-{name}")));
        let config = self.owner.home.join(name).join(format!("{name}.yaml"));
        command.arg("--config").arg(config);
        let log = self.logs.join(format!("{name}.log"));
        let process = Background::start(name, &mut command, &log)?;
        self.running.push((service, process));
        self.wait_until_up(service, &log)
    }

    fn wait_until_up(&mut self, service: Service, log: &Path) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        while !answers(service) {
            let alive = self
                .running
                .iter_mut()
                .any(|(known, process)| *known == service && process.is_running());
            if !alive || Instant::now() > end {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                bail!("the {} did not come up; it said:\n{said}", service.name());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What a service has logged.
    #[must_use]
    pub fn log(&self, service: Service) -> String {
        std::fs::read_to_string(self.logs.join(format!("{}.log", service.name())))
            .unwrap_or_default()
    }
}

fn changed(path: &Path) -> Option<(u64, SystemTime)> {
    let data = path.metadata().ok()?;
    Some((data.len(), data.modified().ok()?))
}

fn answers(service: Service) -> bool {
    TcpStream::connect(("127.0.0.1", service.port())).is_ok()
}

impl Drop for Services {
    fn drop(&mut self) {
        self.running
            .iter_mut()
            .for_each(|(_, process)| process.stop());
    }
}
