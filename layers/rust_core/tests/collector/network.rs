//! A network between the collector and simulated nodes that delays, loses, repeats and reorders.

use crate::nodes::{Behaviour, EPOCH, Node};
use prost::Message;
use prost::bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rust_core::collector::wire::{StoreResponse, VoteResponse};
use rust_core::collector::{Ballot, Collected, Collector, Failure, Limits, Network};
use std::future::{Future, pending};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// As the stack has them (lovectl/delegates.py): a quorum is 10 of 15.
const LIGHT: [u64; 4] = [3; 4];
const FULL: [u64; 3] = [1; 3];

pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// As the stack's settings.
pub const LIMITS: Limits = Limits { deadline: ms(80), cold_deadline: ms(1_000) };
/// From request to answer, where a test says nothing else.
pub const ROUND_TRIP: Duration = ms(10);

/// How the line to one node is.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Of each message one way, milliseconds.
    pub delay_ms: Range<u64>,
    /// Of each message, on both ways.
    pub loss: f64,
    /// Of each request.
    pub repetition: f64,
    /// Nobody listens.
    pub is_refused: bool,
    /// Messages of this attempt go nowhere, as on a connection that is half open.
    pub dead_attempt: Option<u32>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { delay_ms: 5..6, loss: 0.0, repetition: 0.0, is_refused: false, dead_attempt: None }
    }
}

/// Nodes that can't be reached for a while.
#[derive(Debug, Clone)]
pub struct Partition {
    pub nodes: Vec<usize>,
    /// Milliseconds of the simulation.
    pub during_ms: Range<u64>,
}

struct World {
    began_at: Instant,
    chance: Mutex<StdRng>,
    nodes: Vec<Mutex<Node>>,
    conditions: Mutex<Vec<Conditions>>,
    partitions: Mutex<Vec<Partition>>,
    log: Mutex<Vec<(u128, usize, u32, &'static str)>>,
}

#[derive(Clone)]
pub struct Simulated(Arc<World>);

/// What a collection came to, and how long it took.
pub struct Run {
    pub collected: Collected,
    pub took: Duration,
}

impl Run {
    /// Of the only ballot.
    pub fn is_final(&self) -> bool {
        assert_eq!(self.collected.outcomes.len(), 1);
        self.collected.outcomes[0].is_final
    }

    pub fn stake(&self) -> u128 {
        self.collected.outcomes[0].stake
    }

    /// What became of asking each node.
    pub fn told(&self) -> Vec<&'static str> {
        self.collected.reports.iter().map(|report| report.outcome).collect()
    }

    pub fn attempts(&self) -> Vec<u32> {
        self.collected.reports.iter().map(|report| report.attempts).collect()
    }
}

/// Run a simulation in time that is paused.
pub fn simulate<T>(simulation: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(simulation)
}

impl Simulated {
    pub fn new(nodes: Vec<Node>, seed: u64) -> Self {
        Self(Arc::new(World {
            began_at: Instant::now(),
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            conditions: Mutex::new(vec![Conditions::default(); nodes.len()]),
            nodes: nodes.into_iter().map(Mutex::new).collect(),
            partitions: Mutex::new(Vec::new()),
            log: Mutex::new(Vec::new()),
        }))
    }

    /// Four light and three full nodes, honest, on quick lines.
    pub fn stack() -> Self {
        let light = LIGHT.iter().map(|&stake| (stake, false));
        let all = light.chain(FULL.iter().map(|&stake| (stake, true))).enumerate();
        Self::new(all.map(|(number, (stake, is_full))| Node::new(number, stake, is_full)).collect(), 0)
    }

    pub fn collector(&self) -> Collector<Simulated> {
        let delegate = |node: &Mutex<Node>| {
            let node = node.lock().unwrap();
            (node.delegate(), node.is_full)
        };
        Collector::new(EPOCH, self.0.nodes.iter().map(delegate).collect(), self.clone())
    }

    /// A collector whose light nodes are connected.
    pub async fn warm_collector(&self) -> Collector<Simulated> {
        let collector = self.collector();
        let warming = self.collect(&collector, &[crate::nodes::ballot(255, 0, 0)]).await;
        assert!(warming.is_final());
        collector
    }

    pub async fn collect(&self, collector: &Collector<Simulated>, ballots: &[Ballot]) -> Run {
        self.collect_within(collector, ballots, LIMITS).await
    }

    pub async fn collect_within(
        &self,
        collector: &Collector<Simulated>,
        ballots: &[Ballot],
        limits: Limits,
    ) -> Run {
        let began_at = Instant::now();
        let collected = collector.collect(ballots, limits).await;
        Run { collected, took: began_at.elapsed() }
    }

    pub fn len(&self) -> usize {
        self.0.nodes.len()
    }

    pub fn node(&self, number: usize) -> MutexGuard<'_, Node> {
        self.0.nodes[number].lock().unwrap()
    }

    pub fn node_named(&self, name: &str) -> Option<MutexGuard<'_, Node>> {
        (0..self.len()).map(|number| self.node(number)).find(|node| node.delegate_id == name)
    }

    pub fn total_stake(&self) -> u128 {
        (0..self.len()).map(|number| u128::from(self.node(number).stake)).sum()
    }

    pub fn set_behaviour(&self, nodes: impl IntoIterator<Item = usize>, behaviour: Behaviour) {
        nodes.into_iter().for_each(|number| self.node(number).behaviour = behaviour);
    }

    pub fn set_conditions(&self, nodes: impl IntoIterator<Item = usize>, conditions: &Conditions) {
        let mut all = self.0.conditions.lock().unwrap();
        nodes.into_iter().for_each(|number| all[number] = conditions.clone());
    }

    /// These nodes can't be reached for so long from now on.
    pub fn cut(&self, nodes: impl IntoIterator<Item = usize>, during: Duration) {
        let now_ms = self.now_ms() as u64;
        let until_ms = now_ms.saturating_add(during.as_millis() as u64);
        self.partition(Partition { nodes: nodes.into_iter().collect(), during_ms: now_ms..until_ms });
    }

    pub fn partition(&self, partition: Partition) {
        self.0.partitions.lock().unwrap().push(partition);
    }

    /// When, which node, which attempt, what.
    pub fn log(&self) -> Vec<(u128, usize, u32, &'static str)> {
        self.0.log.lock().unwrap().clone()
    }

    pub fn chance<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.chance.lock().unwrap())
    }

    fn now_ms(&self) -> u128 {
        self.0.began_at.elapsed().as_millis()
    }

    fn is_cut(&self, node: usize) -> bool {
        let now_ms = self.now_ms() as u64;
        let partitions = self.0.partitions.lock().unwrap();
        partitions.iter().any(|one| one.nodes.contains(&node) && one.during_ms.contains(&now_ms))
    }

    fn write(&self, node: usize, attempt: u32, what: &'static str) {
        self.0.log.lock().unwrap().push((self.now_ms(), node, attempt, what));
    }

    /// Carry a request, perhaps twice, and whichever answer is first; for ever, if none comes.
    async fn carry(
        &self,
        node: usize,
        attempt: u32,
        request: Bytes,
        handle: Handle,
    ) -> Result<Bytes, Failure> {
        let conditions = self.0.conditions.lock().unwrap()[node].clone();
        self.write(node, attempt, "asked");
        if conditions.is_refused {
            sleep(self.chance(|chance| ms(chance.random_range(conditions.delay_ms)))).await;
            return Err(Failure::Unreachable("connection refused".to_owned()));
        }
        if conditions.dead_attempt == Some(attempt) {
            return pending().await;
        }
        let copies = 1 + usize::from(self.chance(|chance| chance.random_bool(conditions.repetition)));
        let (answering, mut answers) = mpsc::unbounded_channel();
        for _ in 0..copies {
            let way = self.chance(|chance| Way {
                there: ms(chance.random_range(conditions.delay_ms.clone())),
                back: ms(chance.random_range(conditions.delay_ms.clone())),
                is_lost_there: chance.random_bool(conditions.loss),
                is_lost_back: chance.random_bool(conditions.loss),
            });
            // What is on its way arrives, though nobody waits for it any more.
            let (network, request, answering) = (self.clone(), request.clone(), answering.clone());
            tokio::spawn(async move {
                sleep(way.there).await;
                if way.is_lost_there || network.is_cut(node) {
                    return network.write(node, attempt, "request lost");
                }
                let answer = handle(&mut network.node(node), &request);
                sleep(way.back).await;
                if way.is_lost_back || network.is_cut(node) {
                    return network.write(node, attempt, "answer lost");
                }
                network.write(node, attempt, "answered");
                let _ = answering.send(answer);
            });
        }
        // `answering` lives on here: without an answer this waits for ever.
        answers.recv().await.expect("a sender lives").map(Bytes::from)
    }
}

type Handle = fn(&mut Node, &[u8]) -> Result<Vec<u8>, Failure>;

/// What becomes of one copy of a request, drawn at once.
struct Way {
    there: Duration,
    back: Duration,
    is_lost_there: bool,
    is_lost_back: bool,
}

/// As `channel` does it.
fn decoded<T: Message + Default>(answer: Bytes, bytes_max: usize) -> Result<T, Failure> {
    if answer.len() > bytes_max {
        return Err(Failure::Garbage("answer is too long"));
    }
    T::decode(answer).map_err(|_| Failure::Garbage("answer is no message"))
}

impl Network for Simulated {
    async fn vote(
        &self,
        node: usize,
        attempt: u32,
        request: Bytes,
        answer_bytes_max: usize,
    ) -> Result<VoteResponse, Failure> {
        decoded(self.carry(node, attempt, request, Node::vote).await?, answer_bytes_max)
    }

    async fn store(&self, node: usize, request: Bytes) -> Result<StoreResponse, Failure> {
        decoded(self.carry(node, 0, request, Node::store).await?, usize::MAX)
    }
}
