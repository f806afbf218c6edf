//! Numbered packets between all nodes, and which of them arrived.

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex,
    },
    thread::{sleep, JoinHandle},
    time::{Duration, Instant},
};

use crate::{inside::in_namespace, world::World};

const PORT: u16 = 7700;
const INTERVAL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(30);

/// From node, to node.
type Pair = (usize, usize);

#[derive(Default)]
struct Counts {
    sent: HashMap<Pair, u64>,
    received: HashMap<Pair, u64>,
}

pub(crate) struct Flows {
    counts: Arc<Mutex<Counts>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flows {
    pub(crate) fn start(world: &World) -> Self {
        let counts = Arc::<Mutex<Counts>>::default();
        let stop = Arc::<AtomicBool>::default();
        let places: Vec<SocketAddr> = world
            .nodes
            .iter()
            .map(|node| (node.inner, PORT).into())
            .collect();
        let mut threads = Vec::new();
        for (number, node) in world.nodes.iter().enumerate() {
            let socket = in_namespace(&node.namespace, || UdpSocket::bind(places[number]).unwrap());
            socket
                .set_read_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            let other = socket.try_clone().unwrap();
            let (c, s, p) = (counts.clone(), stop.clone(), places.clone());
            threads.push(std::thread::spawn(move || {
                send(number, &socket, &p, &c, &s)
            }));
            let (c, s, p) = (counts.clone(), stop.clone(), places.clone());
            threads.push(std::thread::spawn(move || {
                receive(number, &other, &p, &c, &s)
            }));
        }
        Self {
            counts,
            stop,
            threads,
        }
    }

    pub(crate) fn sent(&self, from: usize, to: usize) -> u64 {
        *self
            .counts
            .lock()
            .unwrap()
            .sent
            .get(&(from, to))
            .unwrap_or(&0)
    }

    pub(crate) fn arrived(&self, from: usize, to: usize) -> u64 {
        *self
            .counts
            .lock()
            .unwrap()
            .received
            .get(&(from, to))
            .unwrap_or(&0)
    }

    /// After what is on its way has arrived.
    pub(crate) fn lost_between(&self, from: usize, to: usize) -> u64 {
        let sent = self.sent(from, to);
        sleep(Duration::from_millis(500));
        sent.saturating_sub(self.arrived(from, to))
    }

    /// Both ways, with all others.
    pub(crate) fn received_with(&self, node: usize) -> u64 {
        let counts = self.counts.lock().unwrap();
        let of = counts
            .received
            .iter()
            .filter(|((from, to), _)| *from == node || *to == node);
        of.map(|(_, number)| number).sum()
    }

    /// Until the node has received from, and been heard by, each of the others.
    pub(crate) fn wait_for_more_with(&self, world: &World, node: usize) {
        let others = (0..3).filter(|other| *other != node);
        let pairs: Vec<Pair> = others
            .flat_map(|other| [(node, other), (other, node)])
            .collect();
        self.wait_for(world, &pairs);
    }

    /// Until more has arrived over each of these.
    pub(crate) fn wait_for(&self, world: &World, pairs: &[Pair]) {
        let now = || pairs.iter().map(|(from, to)| self.arrived(*from, *to));
        let before: Vec<u64> = now().collect();
        let begun = Instant::now();
        while now().zip(&before).any(|(now, before)| now <= *before) {
            assert!(
                begun.elapsed() < PATIENCE,
                "no traffic over one of {pairs:?}\n{}",
                world.story()
            );
            sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .drain(..)
            .for_each(|thread| drop(thread.join()));
    }
}

fn send(
    number: usize,
    socket: &UdpSocket,
    places: &[SocketAddr],
    counts: &Mutex<Counts>,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        for (other, place) in places
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != number)
        {
            let mut counts = counts.lock().unwrap();
            let sequence = counts.sent.entry((number, other)).or_default();
            *sequence += 1;
            let packet = sequence.to_be_bytes();
            drop(counts);
            // One that cannot be sent is one that was lost.
            let _ = socket.send_to(&packet, place);
        }
        sleep(INTERVAL);
    }
}

fn receive(
    number: usize,
    socket: &UdpSocket,
    places: &[SocketAddr],
    counts: &Mutex<Counts>,
    stop: &AtomicBool,
) {
    let mut packet = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        let Ok((8, from)) = socket.recv_from(&mut packet) else {
            continue;
        };
        let Some(other) = places.iter().position(|place| *place == from) else {
            continue;
        };
        let mut counts = counts.lock().unwrap();
        *counts.received.entry((other, number)).or_default() += 1;
    }
}
