//! A node that fails is taken off the network: two machines, kernel ESP between them.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::{guest::Guest, pair::Pair, revocations::Violation, stage::Set};

/// How many pings one look is made of.
const LOOK: u32 = 10;
/// How long the revocation list may take to the peer's charon.
const LISTED: Duration = Duration::from_secs(60);

pub(super) fn revocation(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let stage = set.stage(name, guest)?;
    let mut pair = Pair::provisioned(&stage)?;
    protected(&pair)?;
    let charon = charon(&pair)?;
    let serial = stage.bay.serial()?;
    violate(&pair, "ike")?;
    cut_off(&pair)?;
    listed(&pair, &serial)?;
    reinstated(&mut pair)?;
    ensure!(
        charon == self::charon(&pair)?,
        "charon was started again at the peer"
    );
    // The same once more, while the peer's charon hangs: the kernel is closed without it.
    pair.second_bay
        .guest
        .ok("kill -STOP $(pidof charon-systemd)")?;
    violate(&pair, "kernel")?;
    cut_off(&pair)?;
    pair.second_bay
        .guest
        .ok("kill -CONT $(pidof charon-systemd)")?;
    thread::sleep(Duration::from_secs(3));
    cut_off(&pair)
}

/// Traffic passes, as ESP and nothing else.
fn protected(pair: &Pair<'_>) -> Result<()> {
    let took = pair.meet()?;
    let before = pair.wire()?;
    let pings = pair.pings(LOOK)?;
    ensure!(pings.received == LOOK, "pings got lost: {pings:?}");
    // Nothing before either: not while charon was starting.
    let wire = match pair.nothing_in_clear() {
        Ok(wire) => wire,
        Err(error) => return Err(error.context(pair.explain()?)),
    };
    ensure!(
        count(&wire, "esp") >= count(&before, "esp") + 2 * u64::from(LOOK),
        "the pings did not pass as ESP: {before}, then {wire}"
    );
    let states = pair.states()?;
    ensure!(
        states.contains("mode transport"),
        "no association in transport mode: {states}"
    );
    let say = |text: &str| pair.stage.set.progress.say(text);
    say(&format!(
        "  the two met within {} ms (emulated); {} of {} pings; on the wire: {wire}",
        took.as_millis(),
        pings.received,
        pings.sent
    ));
    show(
        pair,
        "before: ip -s xfrm state, at the peer",
        &counted(&states),
    );
    show(
        pair,
        "before: swanctl --list-sas",
        &pair.second_bay.guest.ok("swanctl --list-sas")?,
    );
    Ok(())
}

/// The first machine runs a program that nobody listed; the second must enforce what follows in this way.
fn violate(pair: &Pair<'_>, outcome: &str) -> Result<Violation> {
    let first = pair.first.as_ref().context("the first machine is off")?;
    let stage = pair.stage;
    let violation = Violation::commit(&stage.owner, &stage.bay, &first.node, &pair.second.node)?;
    for (at, event) in violation.timeline() {
        stage.set.progress.say(&format!("  {at:>6} ms  {event}"));
    }
    ensure!(
        violation.outcome() == outcome,
        "the peer has enforced it otherwise than by {outcome}: {}",
        violation.acknowledgement
    );
    Ok(violation)
}

/// Nothing passes between the two, neither protected nor in clear, and the kernel still demands protection.
fn cut_off(pair: &Pair<'_>) -> Result<()> {
    let pings = pair.pings(LOOK)?;
    ensure!(pings.received == 0, "pings still come back: {pings:?}");
    let wire = pair.nothing_in_clear()?;
    let states = pair.states()?;
    // An attempt to meet leaves a larval state, which carries nothing (SPI 0).
    let live = states
        .lines()
        .filter(|line| line.contains("spi 0x") && !line.contains("spi 0x00000000"))
        .count();
    ensure!(live == 0, "there are associations left: {states}");
    let policies = pair.second_bay.guest.ok("ip xfrm policy")?;
    ensure!(
        policies.contains("10.77.0."),
        "no policy is left that keeps traffic from passing in clear: {policies}"
    );
    pair.stage.set.progress.say(&format!(
        "  {} of {} pings; on the wire: {wire}",
        pings.received, pings.sent
    ));
    show(
        pair,
        "after: ip -s xfrm state, at the peer",
        &counted(&states),
    );
    show(pair, "after: ip xfrm policy", &on_wire(&policies));
    Ok(())
}

/// The certificate of the first is on the CA's list, and the peer's charon has that list.
fn listed(pair: &Pair<'_>, serial: &str) -> Result<()> {
    let end = Instant::now() + LISTED;
    loop {
        let crl = pair
            .second_bay
            .guest
            .ok("swanctl --list-certs --type x509_crl")?;
        let plain: String = crl.to_lowercase().replace([':', '\n'], " ");
        if plain.replace(' ', "").contains(serial) {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "the peer's charon has no revocation list with serial {serial}: {crl}"
        );
        thread::sleep(Duration::from_millis(500));
    }
}

/// The first machine is booted afresh and given back its place; traffic passes again.
fn reinstated(pair: &mut Pair<'_>) -> Result<()> {
    pair.switch_first_off()?;
    pair.reinstate_first()?;
    protected(pair)
}

/// charon's process at the peer.
fn charon(pair: &Pair<'_>) -> Result<String> {
    pair.second_bay
        .guest
        .ok("systemctl show --property=MainPID --value strongswan.service")
}

fn count(wire: &Value, kind: &str) -> u64 {
    wire[kind].as_u64().unwrap_or(0)
}

/// Of each association whose it is and what has passed; not its keys.
fn counted(states: &str) -> String {
    let told = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("src ")
            || line.starts_with("proto ")
            || (line.contains("(packets)") && !line.starts_with("limit"))
    };
    let lines: Vec<&str> = states.lines().filter(told).collect();
    match lines.as_slice() {
        [] => "none".into(),
        lines => lines.join("\n"),
    }
}

/// The policies for addresses of the wire. Each begins at the start of a line.
fn on_wire(policies: &str) -> String {
    let mut told = false;
    let of_wire = |line: &&str| {
        if line.starts_with("src ") {
            told = line.contains("10.77.0.");
        }
        told
    };
    policies
        .lines()
        .filter(of_wire)
        .collect::<Vec<_>>()
        .join("\n")
}

fn show(pair: &Pair<'_>, title: &str, text: &str) {
    pair.stage.set.progress.say(&format!("  {title}"));
    text.lines()
        .for_each(|line| println!("             {line}"));
}

#[cfg(test)]
mod tests {
    use super::{counted, on_wire};

    #[test]
    fn keys_are_not_shown() {
        let states = "src 10.77.0.1 dst 10.77.0.2\n\tproto esp spi 0x1 reqid 1 mode transport\n\taead rfc4106(gcm(aes)) 0xcf 128\n\
                      \t  limit: soft (INF)(packets), hard (INF)(packets)\n\t  704(bytes), 11(packets)\n";
        let told = counted(states);
        assert_eq!(told.lines().count(), 3, "{told}");
        assert!(told.contains("11(packets)") && !told.contains("0xcf"));
        assert_eq!(counted(""), "none");
    }

    #[test]
    fn policies_of_other_addresses_are_not_shown() {
        let policies = "src 10.77.0.1/32 dst 0.0.0.0/0 \n\tdir in action block\nsrc ::/0 dst ::/0 \n\tsocket in\n";
        assert_eq!(
            on_wire(policies),
            "src 10.77.0.1/32 dst 0.0.0.0/0 \n\tdir in action block"
        );
    }
}
