//! Collects the delegates' votes on a batch over a network, until a quorum or one deadline.
//!
//! All light nodes are asked at once. The full nodes are asked when the light ones can't make a
//! quorum, or not soon; slow nodes are asked a second time. Every signature is verified when it
//! comes, so that nobody's word ends the collection early. The network is a trait: gRPC in
//! `channel`, a simulated one in tests.

pub mod answers;
pub mod channel;
pub mod line;
pub mod wire;

use crate::votes::{self, Delegate, DoubleVote, is_quorum};
use answers::{Answers, Checked};
use line::Line;
use prost::Message;
use prost::bytes::Bytes;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};
use wire::{SignedHeader, StoreRequest, StoreResponse, VoteRequest, VoteResponse};

/// A node that takes longer than this part of the deadline is slow: others are asked beside it.
const PATIENCE_PARTS: u32 = 4;
/// And after this part it is asked again, on another connection.
const HEDGE_PARTS: u32 = 2;
/// What a full node may take for a batch, though nobody waits that long.
const STORE_CALL: Duration = Duration::from_secs(2);

/// Why a call brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or it broke.
    Unreachable(String),
    TimedOut,
    /// The node's gRPC status.
    Refused(String),
    /// It answered, but not what was asked.
    Garbage(&'static str),
}

impl Failure {
    /// One word for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Refused(_) => "refused",
            Self::Garbage(_) => "garbage",
        }
    }
}

/// The way to the nodes, which are numbered as in the electorate.
///
/// `attempt` tells a repetition: it should go another way than the first. Requests are encoded once
/// and shared. An answer that is longer than `answer_bytes_max` is garbage.
pub trait Network: Send + Sync + 'static {
    fn vote(
        &self,
        node: usize,
        attempt: u32,
        request: Bytes,
        answer_bytes_max: usize,
    ) -> impl Future<Output = Result<VoteResponse, Failure>> + Send;

    fn store(
        &self,
        node: usize,
        request: Bytes,
    ) -> impl Future<Output = Result<StoreResponse, Failure>> + Send;
}

/// What is voted on: the transaction's names, and its signed header as the nodes get it.
#[derive(Debug, Clone)]
pub struct Ballot {
    pub transaction_id: [u8; 32],
    pub sender: [u8; 32],
    pub nonce: u64,
    pub header: SignedHeader,
}

/// The limits of one collection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub deadline: Duration,
    /// While connections to a quorum are to be made for the first time; and what one call gets for its
    /// node's connection, though nobody waits for it.
    pub cold_deadline: Duration,
}

/// What the votes for one ballot come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub is_final: bool,
    pub stake: u128,
    /// Who counts, with the signature.
    pub votes: Vec<(String, Vec<u8>)>,
    /// Claimed voters that count for nothing.
    pub refused: Vec<String>,
    /// Stake of those who have promised this nonce to another transaction.
    pub locked_stake: u128,
    pub double_votes: Vec<DoubleVote>,
}

/// What became of asking one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// `answered`, `pending`, `resting`, `not_asked`, or a failure's code.
    pub outcome: &'static str,
    /// Until it answered or failed.
    pub latency: Option<Duration>,
    pub attempts: u32,
}

/// The outcomes in the order of the ballots, the reports in the order of the nodes.
#[derive(Debug, Clone)]
pub struct Collected {
    pub outcomes: Vec<Outcome>,
    pub reports: Vec<NodeReport>,
}

/// The delegates of an epoch, and what was learnt about the lines to them.
pub struct Collector<N> {
    epoch: u64,
    delegates: Vec<Delegate>,
    /// Of each delegate, whether it is a full node.
    full: Vec<bool>,
    lines: Arc<Vec<Mutex<Line>>>,
    network: Arc<N>,
}

/// A node's answer or failure on its way to who waits for it.
struct Arrival {
    node: usize,
    result: Result<VoteResponse, Failure>,
    latency: Duration,
}

impl<N: Network> Collector<N> {
    /// Delegates in the order in which the network numbers them, each with whether it is full.
    pub fn new(epoch: u64, delegates: Vec<(Delegate, bool)>, network: N) -> Self {
        let (delegates, full): (Vec<_>, Vec<_>) = delegates.into_iter().unzip();
        let lines = delegates.iter().map(|_| Mutex::new(Line::default())).collect();
        Self { epoch, delegates, full, lines: Arc::new(lines), network: Arc::new(network) }
    }

    pub fn delegates(&self) -> &[Delegate] {
        &self.delegates
    }

    /// Ask until each ballot is final, or can't be any more, or the deadline has come.
    ///
    /// Calls that nobody waits for any more go on until their own deadline, and teach how quick
    /// their node is.
    pub async fn collect(&self, ballots: &[Ballot], limits: Limits) -> Collected {
        let mut round = Round::new(self, ballots, limits);
        round.begin();
        loop {
            if round.is_decided() {
                break;
            }
            tokio::select! {
                biased;
                Some(arrival) = round.arrivals.recv() => round.take(arrival),
                () = sleep_until(round.ends_at) => break,
                () = sleep_until(round.impatient_at), if !round.is_impatient => round.be_impatient(),
                () = sleep_until(round.hedge_at), if !round.has_hedged => round.hedge(),
            }
        }
        round.finish()
    }

    /// Give a sealed batch to every full node; who has it on disk when the first one has, or `deadline`
    /// is over. The others go on getting it.
    pub async fn store(&self, request: StoreRequest, deadline: Duration) -> Vec<String> {
        let items = request.items.len();
        let request = Bytes::from(request.encode_to_vec());
        let now = Instant::now();
        let ends_at = now + deadline;
        let (kept, mut keepers) = mpsc::unbounded_channel();
        for node in (0..self.delegates.len()).filter(|&node| self.full[node]) {
            if !lock(&self.lines[node]).admits(now) {
                continue;
            }
            let (network, lines, request) = (self.network.clone(), self.lines.clone(), request.clone());
            let kept = kept.clone();
            // A full node that is slower than the others still gets it.
            let call_ends_at = now + deadline.max(STORE_CALL);
            tokio::spawn(async move {
                let result = timeout_at(call_ends_at, network.store(node, request)).await;
                let mut line = lock(&lines[node]);
                match result {
                    Ok(Ok(response)) => {
                        line.answered();
                        let refused = response.refusals.len();
                        if usize::try_from(response.kept).is_ok_and(|kept| kept + refused == items) {
                            let _ = kept.send(node);
                        }
                    }
                    // Its status came by a line that works.
                    Ok(Err(Failure::Refused(_))) => line.answered(),
                    Ok(Err(_)) | Err(_) => line.failed(Instant::now()),
                }
            });
        }
        drop(kept);
        let mut names = Vec::new();
        if let Ok(Some(first)) = timeout_at(ends_at, keepers.recv()).await {
            names.push(self.delegates[first].delegate_id.clone());
            while let Ok(node) = keepers.try_recv() {
                names.push(self.delegates[node].delegate_id.clone());
            }
        }
        names
    }
}

/// The attempts at one node in one collection: they fail together, or not at all.
#[derive(Debug, Default)]
struct Attempts {
    under_way: u32,
    has_answered: bool,
}

impl Attempts {
    /// One has ended; whether the node has failed by that.
    fn end(&mut self, is_answer: bool) -> bool {
        self.under_way -= 1;
        self.has_answered |= is_answer;
        self.under_way == 0 && !self.has_answered
    }
}

/// One collection under way.
struct Round<'a, N> {
    collector: &'a Collector<N>,
    answers: Answers<'a>,
    request: Bytes,
    reports: Vec<NodeReport>,
    /// Calls under way, by node.
    calls: Vec<u32>,
    attempts: Vec<Arc<Mutex<Attempts>>>,
    ends_at: Instant,
    connects_until: Instant,
    impatient_at: Instant,
    hedge_at: Instant,
    patience: Duration,
    is_impatient: bool,
    has_hedged: bool,
    arriving: mpsc::UnboundedSender<Arrival>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
}

impl<'a, N: Network> Round<'a, N> {
    fn new(collector: &'a Collector<N>, ballots: &'a [Ballot], limits: Limits) -> Self {
        let began_at = Instant::now();
        let known = collector.stake_of(|node| !lock(&collector.lines[node]).is_new());
        let is_cold = !is_quorum(known, votes::total_stake(&collector.delegates));
        let deadline = if is_cold { limits.cold_deadline.max(limits.deadline) } else { limits.deadline };
        let patience = deadline / PATIENCE_PARTS;
        let items = ballots.iter().map(|ballot| ballot.header.clone()).collect();
        let request = VoteRequest { epoch: collector.epoch, items };
        let (arriving, arrivals) = mpsc::unbounded_channel();
        let asked_nobody = NodeReport { outcome: "not_asked", latency: None, attempts: 0 };
        Self {
            collector,
            answers: Answers::new(ballots, &collector.delegates, collector.epoch),
            request: Bytes::from(request.encode_to_vec()),
            reports: vec![asked_nobody; collector.delegates.len()],
            calls: vec![0; collector.delegates.len()],
            attempts: collector.delegates.iter().map(|_| Arc::default()).collect(),
            ends_at: began_at + deadline,
            connects_until: began_at + limits.cold_deadline.max(limits.deadline),
            impatient_at: began_at + patience,
            hedge_at: began_at + deadline / HEDGE_PARTS,
            patience,
            is_impatient: false,
            has_hedged: false,
            arriving,
            arrivals,
        }
    }

    fn begin(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        self.ask_all(false);
        let collector = self.collector;
        let prompt =
            collector.stake_of(|node| !collector.full[node] && lock(&collector.lines[node]).is_prompt());
        // Cold lines are given their time: the full nodes' are as cold.
        let knows_them = (0..self.calls.len()).any(|node| lock(&collector.lines[node]).is_warm());
        if knows_them && !is_quorum(prompt, self.answers.total_stake()) {
            self.ask_all(true);
        }
        self.ask_further();
    }

    /// Ask every full (or every light) node that was not asked yet and doesn't rest.
    fn ask_all(&mut self, full: bool) {
        let now = Instant::now();
        for node in 0..self.calls.len() {
            if self.collector.full[node] != full || self.reports[node].outcome != "not_asked" {
                continue;
            }
            if lock(&self.collector.lines[node]).admits(now) {
                self.ask(node);
            } else {
                self.reports[node].outcome = "resting";
            }
        }
    }

    fn ask(&mut self, node: usize) {
        let attempt = self.reports[node].attempts;
        self.reports[node].attempts += 1;
        self.reports[node].outcome = "pending";
        self.calls[node] += 1;
        let (network, lines) = (self.collector.network.clone(), self.collector.lines.clone());
        let (request, arriving) = (self.request.clone(), self.arriving.clone());
        let answer_bytes_max = answers::bytes_max(self.answers.len());
        let attempts = self.attempts[node].clone();
        attempts.lock().unwrap_or_else(PoisonError::into_inner).under_way += 1;
        let connects = lock(&lines[node]).begin_connecting();
        let (gives_up_at, patience) =
            (if connects { self.connects_until } else { self.ends_at }, self.patience);
        tokio::spawn(async move {
            let began_at = Instant::now();
            let call = timeout_at(gives_up_at, network.vote(node, attempt, request, answer_bytes_max));
            let result = call.await.unwrap_or(Err(Failure::TimedOut));
            let latency = began_at.elapsed();
            {
                let mut line = lock(&lines[node]);
                if connects {
                    line.end_connecting();
                }
                let is_line_good = matches!(result, Ok(_) | Err(Failure::Refused(_)));
                let has_failed = attempts.lock().unwrap_or_else(PoisonError::into_inner).end(is_line_good);
                if is_line_good {
                    line.answered();
                    if latency > patience {
                        line.lagged();
                    }
                } else if has_failed {
                    line.failed(Instant::now());
                }
            }
            // Nobody may wait for it any more.
            let _ = arriving.send(Arrival { node, result, latency });
        });
    }

    fn take(&mut self, arrival: Arrival) {
        let Arrival { node, result, latency } = arrival;
        self.calls[node] -= 1;
        if self.reports[node].outcome == "answered" {
            return; // the other attempt was quicker
        }
        match result.and_then(|response| self.answers.take(node, response)) {
            Ok(Checked) => {
                self.reports[node].outcome = "answered";
                self.reports[node].latency = Some(latency);
            }
            Err(failure) => {
                if let Failure::Garbage(_) = failure {
                    lock(&self.collector.lines[node]).spoiled(Instant::now());
                }
                if self.calls[node] == 0 {
                    self.reports[node].outcome = failure.code();
                    self.reports[node].latency = Some(latency);
                }
            }
        }
        self.ask_further();
    }

    /// Turn to the full nodes as soon as those that were asked can't make it.
    fn ask_further(&mut self) {
        if !self.answers.may_all_be_decided(|node| self.calls[node] > 0) {
            self.ask_all(true);
        }
    }

    fn be_impatient(&mut self) {
        self.is_impatient = true;
        for node in (0..self.calls.len()).filter(|&node| self.calls[node] > 0) {
            lock(&self.collector.lines[node]).lagged();
        }
        self.ask_all(true);
    }

    fn hedge(&mut self) {
        self.has_hedged = true;
        for node in 0..self.calls.len() {
            if self.calls[node] > 0 {
                self.ask(node);
            }
        }
    }

    fn is_decided(&self) -> bool {
        self.answers.are_decided() || self.calls.iter().all(|&calls| calls == 0)
    }

    fn finish(self) -> Collected {
        Collected { outcomes: self.answers.outcomes(), reports: self.reports }
    }
}

impl<N> Collector<N> {
    fn stake_of(&self, counts: impl Fn(usize) -> bool) -> u128 {
        let stakes = self.delegates.iter().enumerate().filter(|(node, _)| counts(*node));
        stakes.map(|(_, delegate)| u128::from(delegate.stake)).sum()
    }
}

/// A line is only ever replaced whole, so that a panic elsewhere leaves it good.
fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}
