//! Python binding of `collector`: the delegates, asked over gRPC without the GIL.

use crate::bindings::{Items, id32};
use crate::collector::channel::{BadEndpoint, Channels, Credentials};
use crate::collector::wire::{Sealed, SignedHeader, SignedVote, StoreRequest, StoredItem};
use crate::collector::{Ballot, Collected, Collector, Limits};
use crate::signatures::Algorithm;
use crate::votes::Delegate;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

const THREADS: usize = 2;
const DEADLINE_MS_MAX: u64 = 60_000;
const BALLOTS_MAX: usize = 1_000;
const DELEGATES_MAX: usize = 1_000;

/// id, algorithm, public key, stake, full, address
type PyDelegate = (String, PyBackedStr, PyBackedBytes, u64, bool, String);
/// transaction id, sender, nonce, header, algorithm, public key, signature
type PyBallot = (PyBackedBytes, PyBackedBytes, u64, PyBackedBytes, String, PyBackedBytes, PyBackedBytes);
/// header, algorithm, public key, signature, key id, ciphertext, home continent, accepted at, request id, votes
type PyStored = (
    (PyBackedBytes, String, PyBackedBytes, PyBackedBytes),
    (String, PyBackedBytes),
    (String, u64, String),
    Items<(String, PyBackedBytes)>,
);

/// What runs: threads don't live on in a forked process, so that it makes its own.
struct Running {
    process_id: u32,
    runtime: Runtime,
    collector: Arc<Collector<Channels>>,
}

/// The delegates of an epoch, connections to them, and what was learnt about each.
#[pyclass(frozen, module = "federation_dag")]
pub struct Electorate {
    epoch: u64,
    delegates: Vec<(Delegate, bool)>,
    addresses: Vec<String>,
    credentials: Credentials,
    running: Mutex<Option<Running>>,
}

/// What asking one delegate came to.
#[pyclass(frozen, get_all, module = "federation_dag")]
pub struct NodeReport {
    delegate_id: String,
    outcome: &'static str,
    latency_ms: Option<f64>,
    attempts: u32,
}

/// What the votes for one ballot come to.
#[pyclass(frozen, get_all, module = "federation_dag")]
pub struct BallotOutcome {
    tally: Py<super::federation_dag::federation_dag::Tally>,
    /// Of the tally's voters.
    signatures: Vec<(String, Py<pyo3::types::PyBytes>)>,
    locked_stake: u128,
}

#[pymethods]
impl Electorate {
    #[new]
    fn new(
        delegates: Items<PyDelegate>,
        epoch: u64,
        ca_pem: String,
        client_cert_pem: String,
        client_key_pem: String,
    ) -> PyResult<Self> {
        if delegates.0.len() > DELEGATES_MAX {
            return Err(PyValueError::new_err(format!("delegates are at most {DELEGATES_MAX}")));
        }
        let credentials = Credentials { ca_pem, client_cert_pem, client_key_pem };
        let mut known = Vec::with_capacity(delegates.0.len());
        let mut addresses = Vec::with_capacity(delegates.0.len());
        for (delegate_id, algorithm, public_key, stake, is_full, address) in delegates.0 {
            let delegate = Delegate {
                delegate_id,
                algorithm: Algorithm::named(&algorithm),
                public_key: public_key.to_vec(),
                stake,
            };
            known.push((delegate, is_full));
            addresses.push(address);
        }
        // Said when it is made, and not at the first batch.
        Channels::new(&addresses, &credentials).map_err(bad_endpoint)?;
        Ok(Self { epoch, delegates: known, addresses, credentials, running: Mutex::new(None) })
    }

    fn collect(
        &self,
        py: Python<'_>,
        ballots: Items<PyBallot>,
        deadline_ms: u64,
        cold_deadline_ms: u64,
    ) -> PyResult<(Vec<BallotOutcome>, Vec<NodeReport>)> {
        if ballots.0.len() > BALLOTS_MAX {
            return Err(PyValueError::new_err(format!("ballots are at most {BALLOTS_MAX}")));
        }
        let limits = Limits {
            deadline: milliseconds("deadline_ms", deadline_ms)?,
            cold_deadline: milliseconds("cold_deadline_ms", cold_deadline_ms)?,
        };
        let ballots = ballots.0.into_iter().map(ballot).collect::<PyResult<Vec<_>>>()?;
        let collected = py.detach(|| {
            self.run(|runtime, collector| runtime.block_on(collector.collect(&ballots, limits)))
        })?;
        self.report(py, &ballots, collected)
    }

    fn store(
        &self,
        py: Python<'_>,
        batch_id: String,
        wrapped_keys: Items<(String, PyBackedBytes)>,
        items: Items<PyStored>,
        deadline_ms: u64,
    ) -> PyResult<Vec<String>> {
        if items.0.len() > BALLOTS_MAX {
            return Err(PyValueError::new_err(format!("items are at most {BALLOTS_MAX}")));
        }
        let deadline = milliseconds("deadline_ms", deadline_ms)?;
        let request = StoreRequest {
            epoch: self.epoch,
            batch_id,
            wrapped_keys: wrapped_keys.0.into_iter().map(|(name, key)| (name, key.to_vec())).collect(),
            items: items.0.into_iter().map(|item| stored(item, self.epoch)).collect(),
        };
        py.detach(|| self.run(|runtime, collector| runtime.block_on(collector.store(request, deadline))))
    }
}

impl Electorate {
    /// Run something on this process's threads.
    fn run<T>(&self, task: impl FnOnce(&tokio::runtime::Handle, &Collector<Channels>) -> T) -> PyResult<T> {
        let (handle, collector) = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if running.as_ref().is_some_and(|one| one.process_id != process::id()) {
                // Its threads are the parent's: to end them here would wait for ever.
                std::mem::forget(running.take());
            }
            let one = match &mut *running {
                Some(one) => one,
                None => running.insert(self.start()?),
            };
            (one.runtime.handle().clone(), one.collector.clone())
        };
        Ok(task(&handle, &collector))
    }

    fn start(&self) -> PyResult<Running> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("votes")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| PyRuntimeError::new_err(format!("no threads for the votes: {error}")))?;
        let channels = Channels::new(&self.addresses, &self.credentials).map_err(bad_endpoint)?;
        let collector = Arc::new(Collector::new(self.epoch, self.delegates.clone(), channels));
        Ok(Running { process_id: process::id(), runtime, collector })
    }

    fn report(
        &self,
        py: Python<'_>,
        ballots: &[Ballot],
        collected: Collected,
    ) -> PyResult<(Vec<BallotOutcome>, Vec<NodeReport>)> {
        let outcomes = ballots.iter().zip(collected.outcomes).map(|(ballot, outcome)| {
            let bytes = |bytes: &[u8]| pyo3::types::PyBytes::new(py, bytes).unbind();
            let signatures =
                outcome.votes.iter().map(|(voter, signature)| (voter.clone(), bytes(signature))).collect();
            let tally = crate::votes::Tally {
                transaction_id: ballot.transaction_id,
                is_final: outcome.is_final,
                stake: outcome.stake,
                voters: outcome.votes.into_iter().map(|(voter, _)| voter).collect(),
                refused: outcome.refused,
                double_votes: outcome.double_votes,
            };
            let tally = super::federation_dag::federation_dag::Tally::new(py, tally)?;
            Ok(BallotOutcome { tally: Py::new(py, tally)?, signatures, locked_stake: outcome.locked_stake })
        });
        let outcomes = outcomes.collect::<PyResult<Vec<_>>>()?;
        let reports =
            self.delegates.iter().zip(collected.reports).map(|((delegate, _), report)| NodeReport {
                delegate_id: delegate.delegate_id.clone(),
                outcome: report.outcome,
                latency_ms: report.latency.map(|latency| latency.as_secs_f64() * 1e3),
                attempts: report.attempts,
            });
        Ok((outcomes, reports.collect()))
    }
}

impl Drop for Electorate {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        match running {
            // Python must not wait for calls that nobody waits for.
            Some(running) if running.process_id == process::id() => running.runtime.shutdown_background(),
            other => std::mem::forget(other),
        }
    }
}

fn bad_endpoint(error: BadEndpoint) -> PyErr {
    PyValueError::new_err(error.0)
}

fn milliseconds(name: &str, value: u64) -> PyResult<Duration> {
    if (1..=DEADLINE_MS_MAX).contains(&value) {
        Ok(Duration::from_millis(value))
    } else {
        Err(PyValueError::new_err(format!("{name} is 1 to {DEADLINE_MS_MAX}, not {value}")))
    }
}

fn ballot(given: PyBallot) -> PyResult<Ballot> {
    let (transaction_id, sender, nonce, header, algorithm, public_key, signature) = given;
    Ok(Ballot {
        transaction_id: id32("transaction_id", &transaction_id)?,
        sender: id32("sender", &sender)?,
        nonce,
        header: signed_header((header, algorithm, public_key, signature)),
    })
}

fn signed_header(given: (PyBackedBytes, String, PyBackedBytes, PyBackedBytes)) -> SignedHeader {
    let (header, algorithm, public_key, signature) = given;
    SignedHeader {
        header: header.to_vec(),
        algorithm,
        public_key: public_key.to_vec(),
        signature: signature.to_vec(),
    }
}

fn stored(given: PyStored, epoch: u64) -> StoredItem {
    let (header, (key_id, ciphertext), (home_continent, accepted_at_ms, request_id), votes) = given;
    let votes = votes.0.into_iter();
    StoredItem {
        header: Some(signed_header(header)),
        sealed: Some(Sealed { key_id, ciphertext: ciphertext.to_vec() }),
        home_continent,
        accepted_at_ms,
        request_id,
        votes: votes
            .map(|(delegate_id, signature)| SignedVote { delegate_id, epoch, signature: signature.to_vec() })
            .collect(),
    }
}
