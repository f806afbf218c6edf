//! Two machines of one owner with a wire between them, on which they speak IPsec only.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::{
    bay::Bay,
    stage::{Boot, Booted, Provisioned, Stage, UnderWay, PATIENCE},
};

/// The group of both: every host on the wire that shows a certificate of the owner's CA.
const GROUP: &str = "group: wire\nnetworks: [10.77.0.0/24]\n";
/// How long the two may take to find each other.
const MEETING: Duration = Duration::from_secs(120);

/// Both machines, provisioned. The first is the one that misbehaves.
#[derive(Debug)]
pub struct Pair<'a> {
    /// The owner, and where the first stands.
    pub stage: &'a Stage<'a>,
    /// Where the second stands.
    pub second_bay: Bay,
    /// The first; none while it is off.
    pub first: Option<Provisioned>,
    /// The second.
    pub second: Provisioned,
}

/// What came back of some pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    /// How many were sent.
    pub sent: u32,
    /// How many answers came.
    pub received: u32,
}

impl<'a> Pair<'a> {
    /// Boots and provisions both at the same time.
    ///
    /// # Errors
    /// When a machine does not become trusted.
    pub fn provisioned(stage: &'a Stage<'a>) -> Result<Self> {
        let second_bay = stage.further_bay(1)?;
        let one = stage.boot_in(&stage.bay, on_wire(false), Box::new(|_| {}))?;
        let two = stage.boot_in(&second_bay, on_wire(false), Box::new(|_| {}))?;
        let two = begin(stage, &second_bay, two, false)?;
        let one = begin(stage, &stage.bay, one, false)?;
        let second = two.finish(&second_bay)?;
        let first = one.finish(&stage.bay)?;
        Self::of(stage, second_bay, first, second)
    }

    /// Two machines that were provisioned as a pair is.
    ///
    /// # Errors
    /// When the wire between them cannot be watched.
    pub fn of(
        stage: &'a Stage<'a>,
        second_bay: Bay,
        first: Provisioned,
        second: Provisioned,
    ) -> Result<Self> {
        let pair = Self {
            stage,
            second_bay,
            first: Some(first),
            second,
        };
        for bay in pair.bays() {
            watch_wire(bay)?;
        }
        Ok(pair)
    }

    /// Switches the first machine off in order.
    ///
    /// # Errors
    /// When it does not end.
    pub fn switch_first_off(&mut self) -> Result<()> {
        match self.first.take() {
            Some(first) => first.booted.switch_off(&self.stage.bay),
            None => Ok(()),
        }
    }

    /// Boots the first machine, which was revoked, and gives it back its place.
    ///
    /// # Errors
    /// When it does not become trusted.
    pub fn reinstate_first(&mut self) -> Result<()> {
        let (stage, bay) = (self.stage, &self.stage.bay);
        let arguments = arguments(bay)?;
        let booted = stage.boot_in(bay, on_wire(false), Box::new(|_| {}))?;
        // Until then the verifier refuses it.
        let node = stage.wait_until_registered(&booted)?;
        let policies = stage.set.policies(false);
        let under_way = stage.begin_provisioning_of(node, booted, &policies, |provision| {
            provision.more = arguments;
            provision.reinstate = true;
        })?;
        self.first = Some(under_way.finish(bay)?);
        Ok(())
    }

    /// Both places.
    #[must_use]
    pub fn bays(&self) -> [&Bay; 2] {
        [&self.stage.bay, &self.second_bay]
    }

    /// Pings from the second to the first until one comes back.
    ///
    /// # Errors
    /// When none does in two minutes, with what charon says.
    pub fn meet(&self) -> Result<Duration> {
        let begun = Instant::now();
        while self.pings(1)?.received == 0 {
            if begun.elapsed() > MEETING {
                anyhow::bail!("the two do not meet: {}", self.explain()?);
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(begun.elapsed())
    }

    /// What both machines know about it.
    ///
    /// # Errors
    /// When a guest does not answer.
    pub fn explain(&self) -> Result<String> {
        const LOOK: &str = "swanctl --list-conns; swanctl --list-certs | head -n 40; swanctl --list-sas; ip xfrm policy; \
                            journalctl -b --no-pager -o cat -u strongswan -u bootkeep-enforce | tail -n 40; cat /run/wire.json";
        let mut text = String::new();
        for bay in self.bays() {
            text += &format!("\nmachine {}:\n", bay.number);
            text += &bay.guest.run(LOOK, PATIENCE)?.text();
        }
        Ok(text)
    }

    /// Pings the first from the second, five in a second.
    ///
    /// # Errors
    /// When the guest does not answer, or `ping` says nothing that is understood.
    pub fn pings(&self, count: u32) -> Result<Pings> {
        let command = format!(
            "ping -n -q -i 0.2 -W 1 -c {count} {}",
            self.stage.bay.address()
        );
        let text = self.second_bay.guest.run(&command, PATIENCE)?.text();
        // The kernel's policies say no before a packet is made.
        if text.contains("Operation not permitted") && pings(&text).is_none() {
            return Ok(Pings {
                sent: count,
                received: 0,
            });
        }
        pings(&text).with_context(|| format!("`{command}` said {text}"))
    }

    /// What the second machine saw on the wire since [`Pair::provisioned`], by kind.
    ///
    /// # Errors
    /// When the guest does not answer.
    pub fn wire(&self) -> Result<Value> {
        let text = self.second_bay.guest.ok("cat /run/wire.json")?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Nothing but ESP and IKE was seen on the wire.
    ///
    /// # Errors
    /// What else was.
    pub fn nothing_in_clear(&self) -> Result<Value> {
        let wire = self.wire()?;
        for kind in ["icmp", "tcp", "udp", "other"] {
            ensure!(wire[kind] == 0, "{kind} passed in clear: {wire}");
        }
        Ok(wire)
    }

    /// The second machine's associations with the first, as its kernel has them.
    ///
    /// # Errors
    /// When the guest does not answer.
    pub fn states(&self) -> Result<String> {
        let first = self.stage.bay.address();
        let show = format!("ip -s xfrm state list src {first}; ip -s xfrm state list dst {first}");
        self.second_bay.guest.ok(&show)
    }
}

/// Starts to provision a machine of the pair.
///
/// # Errors
/// When it does not ask for its key.
pub fn begin(stage: &Stage<'_>, bay: &Bay, booted: Booted, measured: bool) -> Result<UnderWay> {
    let arguments = arguments(bay)?;
    let policies = stage.set.policies(measured);
    stage.begin_provisioning(booted, &policies, |provision| {
        provision.more = arguments;
    })
}

/// A machine with an interface on the wire.
#[must_use]
pub fn on_wire(measured: bool) -> Boot<'static> {
    Boot {
        measured,
        on_wire: true,
        ..Boot::default()
    }
}

/// What `bootkeep provision` is told of a machine of the pair, beside what all are given.
///
/// # Errors
/// When a file cannot be written.
pub fn arguments(bay: &Bay) -> Result<Vec<String>> {
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = bay.directory.join(name);
        fs::write(&path, text)?;
        Ok(path)
    };
    let network = write("wire.network", &bay.wire_network())?;
    let group = write("ipsec.yaml", GROUP)?;
    let file = format!(
        "{}:/etc/systemd/network/20-wire.network:0644:root:root",
        network.display()
    );
    let label = ["a", "b"][usize::from(bay.number)];
    Ok([
        "--file",
        &file,
        "--ipsec",
        &group.display().to_string(),
        "--address",
        &bay.address(),
        "--label",
        label,
    ]
    .map(String::from)
    .into())
}

fn watch_wire(bay: &Bay) -> Result<()> {
    let address = bay.address();
    bay.guest.ok(&format!(
        "for i in $(seq 60); do ip -brief address | grep -q {address} && break; sleep 0.5; done; \
         systemd-run --quiet --unit=wire python3 /usr/lib/bootkeep-test/wire.py {address} && \
         for i in $(seq 60); do test -e /run/wire.json && exit; sleep 0.2; done; journalctl -u wire; exit 1"
    ))
    .map(drop)
}

/// `5 packets transmitted, 4 received, 20% packet loss, time 812ms`
fn pings(text: &str) -> Option<Pings> {
    let line = text
        .lines()
        .find(|line| line.contains("packets transmitted"))?;
    let mut numbers = line
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok());
    Some(Pings {
        sent: numbers.next()?,
        received: numbers.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{pings, Pings};

    #[test]
    fn what_ping_says() {
        let cases = [
            (
                "5 packets transmitted, 4 received, 20% packet loss, time 812ms",
                Some((5, 4)),
            ),
            (
                "1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms",
                Some((1, 0)),
            ),
            ("ping: connect: Network is unreachable", None),
        ];
        for (text, wanted) in cases {
            let wanted = wanted.map(|(sent, received)| Pings { sent, received });
            assert_eq!(pings(text), wanted, "{text}");
        }
    }
}
