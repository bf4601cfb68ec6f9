//! Python binding of `canonical`, `signatures`, `dependencies`, `votes` and `places`.

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

create_exception!(federation_dag, CanonicalError, PyValueError);

#[pymodule]
pub mod federation_dag {
    use super::CanonicalError as CanonicalErrorType;
    use crate::bindings::{Items, id32};
    use crate::canonical::{self, CanonicalError};
    use crate::certificates;
    use crate::dependencies::{self, ObjectId, ObjectSets};
    use crate::places::{self, Position};
    use crate::signatures::{self, Algorithm, Signed};
    use crate::verified::{self, SignedHeader};
    use crate::votes::{self, Delegate, Vote};
    use pyo3::exceptions::{PyIndexError, PyValueError};
    use pyo3::prelude::*;
    use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
    use pyo3::types::{PyBytes, PyIterator, PyList};
    use rayon::prelude::*;

    /// Fewer positions than this are not worth waking another thread.
    const PLACES_A_TASK: usize = 64;

    #[pymodule_export]
    use crate::bindings::electorate::{BallotOutcome, Electorate, NodeReport};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("CanonicalError", module.py().get_type::<CanonicalErrorType>())
    }

    fn not_canonical(py: Python<'_>, error: CanonicalError) -> PyErr {
        let raised = CanonicalErrorType::new_err(error.to_string());
        let value = raised.value(py);
        match value.setattr("path", error.path).and_then(|()| value.setattr("rule", error.rule)) {
            Ok(()) => raised,
            Err(other) => other,
        }
    }

    #[pyfunction]
    fn canonicalize<'py>(py: Python<'py>, document: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let bytes =
            py.detach(|| canonical::canonicalize(document)).map_err(|error| not_canonical(py, error))?;
        Ok(PyBytes::new(py, &bytes))
    }

    #[pyclass(frozen, get_all)]
    struct NamedTransaction {
        canonical: Py<PyBytes>,
        transaction_id: Py<PyBytes>,
        signing_bytes: Py<PyBytes>,
        content: Option<Py<PyBytes>>,
    }

    #[pyfunction]
    fn name_transaction(py: Python<'_>, document: &[u8]) -> PyResult<NamedTransaction> {
        let named = py.detach(|| canonical::name(document)).map_err(|error| not_canonical(py, error))?;
        let bytes = |bytes: &[u8]| PyBytes::new(py, bytes).unbind();
        Ok(NamedTransaction {
            canonical: bytes(&named.canonical),
            transaction_id: bytes(&named.transaction_id),
            signing_bytes: bytes(&named.signing_bytes),
            content: named.content.as_deref().map(bytes),
        })
    }

    #[pyfunction]
    fn account_id<'py>(py: Python<'py>, algorithm: &str, public_key: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let known = Algorithm::named(algorithm)
            .ok_or_else(|| PyValueError::new_err(format!("unknown algorithm {algorithm:?}")))?;
        certificates::account_id(known, public_key).map(|id| PyBytes::new(py, &id)).ok_or_else(|| {
            let wanted = known.public_key_len();
            PyValueError::new_err(format!("an {algorithm} key is {wanted} bytes, not {}", public_key.len()))
        })
    }

    /// Algorithm, public key, message, signature.
    type PySigned = (PyBackedStr, PyBackedBytes, PyBackedBytes, PyBackedBytes);

    #[pyfunction]
    fn batch_verify(py: Python<'_>, items: Items<PySigned>) -> Vec<bool> {
        py.detach(|| {
            let signed: Vec<Signed<'_>> = items
                .0
                .iter()
                .map(|(algorithm, public_key, message, signature)| Signed {
                    algorithm: Algorithm::named(algorithm),
                    public_key,
                    message,
                    signature,
                })
                .collect();
            signatures::batch_verify(&signed)
        })
    }

    #[pyclass(frozen, get_all)]
    struct VerifiedHeader {
        transaction_id: Py<PyBytes>,
        sender: Py<PyBytes>,
        nonce: u64,
        signing_bytes: Py<PyBytes>,
    }

    impl VerifiedHeader {
        fn of(py: Python<'_>, outcome: &Result<verified::VerifiedHeader, verified::Refusal>) -> Option<Self> {
            let header = outcome.as_ref().ok()?;
            let bytes = |bytes: &[u8]| PyBytes::new(py, bytes).unbind();
            Some(Self {
                transaction_id: bytes(&header.transaction_id),
                sender: bytes(&header.sender),
                nonce: header.nonce,
                signing_bytes: bytes(&header.signing_bytes),
            })
        }
    }

    /// What `verify_headers` found out; nothing else makes one.
    #[pyclass(frozen, sequence)]
    struct VerifiedBatch(verified::VerifiedBatch);

    #[pymethods]
    impl VerifiedBatch {
        fn __len__(&self) -> usize {
            self.0.outcomes().len()
        }

        fn __getitem__(&self, py: Python<'_>, index: usize) -> PyResult<Option<VerifiedHeader>> {
            let outcome = self.0.outcomes().get(index);
            let outcome =
                outcome.ok_or_else(|| PyIndexError::new_err(format!("there is no header {index}")))?;
            Ok(VerifiedHeader::of(py, outcome))
        }

        fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
            let headers: Vec<_> =
                self.0.outcomes().iter().map(|outcome| VerifiedHeader::of(py, outcome)).collect();
            headers.into_pyobject(py)?.try_iter()
        }

        #[getter]
        fn reasons(&self) -> Vec<Option<&'static str>> {
            self.0.outcomes().iter().map(|outcome| Some(outcome.as_ref().err()?.code())).collect()
        }

        #[getter]
        fn deps(&self) -> ObjectDeps {
            ObjectDeps { groups: self.0.deps().grouped(), deps: self.0.deps().clone() }
        }

        fn places(&self, py: Python<'_>) -> Vec<Option<Place>> {
            py.detach(|| self.0.places()).into_iter().map(|place| place.map(Place)).collect()
        }
    }

    #[pyfunction]
    fn verify_headers(py: Python<'_>, headers: Items<PySigned>) -> VerifiedBatch {
        VerifiedBatch(py.detach(|| {
            let signed: Vec<SignedHeader<'_>> = headers
                .0
                .iter()
                .map(|(algorithm, public_key, header, signature)| SignedHeader {
                    header,
                    algorithm: Algorithm::named(algorithm),
                    public_key,
                    signature,
                })
                .collect();
            verified::VerifiedBatch::verify(&signed)
        }))
    }

    /// A sequence of layers, which remembers why.
    #[pyclass(frozen, sequence)]
    struct ObjectDeps {
        deps: dependencies::ObjectDeps,
        groups: Vec<Vec<usize>>,
    }

    #[pymethods]
    impl ObjectDeps {
        fn __len__(&self) -> usize {
            self.groups.len()
        }

        fn __getitem__(&self, layer: isize) -> PyResult<&[usize]> {
            let at = if layer < 0 { layer + self.groups.len() as isize } else { layer };
            usize::try_from(at)
                .ok()
                .and_then(|at| self.groups.get(at))
                .map(Vec::as_slice)
                .ok_or_else(|| PyIndexError::new_err(format!("there is no layer {layer}")))
        }

        fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
            (&self.groups).into_pyobject(py)?.try_iter()
        }

        fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
            match other.cast::<ObjectDeps>() {
                Ok(other) => self.groups == other.get().groups,
                Err(_) => other
                    .extract::<Items<Items<usize>>>()
                    .is_ok_and(|other| self.groups.iter().eq(other.0.iter().map(|layer| &layer.0))),
            }
        }

        fn __repr__(&self) -> String {
            format!("ObjectDeps({:?})", self.groups)
        }

        fn conflicts<'py>(
            &self,
            py: Python<'py>,
            index: usize,
        ) -> PyResult<Vec<(usize, Bound<'py, PyBytes>)>> {
            let edges = py
                .detach(|| self.deps.conflicts(index))
                .ok_or_else(|| PyIndexError::new_err(format!("there is no transaction {index}")))?;
            Ok(edges.iter().map(|edge| (edge.before, PyBytes::new(py, &edge.object))).collect())
        }
    }

    #[pyfunction]
    fn resolve_object_deps(py: Python<'_>, items: &Bound<'_, PyAny>) -> PyResult<ObjectDeps> {
        let items = items.cast::<PyList>()?;
        let mut sets = ObjectSets::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let (reads, writes): (Bound<'_, PyList>, Bound<'_, PyList>) = item.extract()?;
            sets.push(object_ids(&reads, index, "reads"), object_ids(&writes, index, "writes"))?;
        }
        Ok(py.detach(|| {
            let deps = dependencies::ObjectDeps::resolve(sets);
            ObjectDeps { groups: deps.grouped(), deps }
        }))
    }

    fn object_ids<'a>(
        ids: &'a Bound<'_, PyList>,
        index: usize,
        set: &'a str,
    ) -> impl Iterator<Item = PyResult<ObjectId>> + 'a {
        ids.iter().enumerate().map(move |(at, id)| {
            let id = id.cast::<PyBytes>()?.as_bytes();
            id.try_into().map_err(|_| {
                let rule = format!("items[{index}].{set}[{at}] is 32 bytes, not {}", id.len());
                PyValueError::new_err(rule)
            })
        })
    }

    #[pyfunction]
    fn vote_message<'py>(
        py: Python<'py>,
        epoch: u64,
        transaction_id: &[u8],
        sender: &[u8],
        nonce: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let id = id32("transaction_id", transaction_id)?;
        let sender = id32("sender", sender)?;
        Ok(PyBytes::new(py, &votes::vote_message(epoch, &id, &sender, nonce)))
    }

    #[pyclass(frozen, get_all)]
    pub struct Tally {
        transaction_id: Py<PyBytes>,
        r#final: bool,
        stake: u128,
        voters: Vec<String>,
        refused: Vec<String>,
        double_votes: Vec<Py<DoubleVote>>,
    }

    impl Tally {
        pub fn new(py: Python<'_>, tally: votes::Tally) -> PyResult<Self> {
            let proofs = tally.double_votes.iter().map(|proof| DoubleVote::new(py, proof));
            Ok(Self {
                transaction_id: PyBytes::new(py, &tally.transaction_id).unbind(),
                double_votes: proofs.collect::<PyResult<_>>()?,
                r#final: tally.is_final,
                stake: tally.stake,
                voters: tally.voters,
                refused: tally.refused,
            })
        }
    }

    #[pyclass(frozen, get_all)]
    pub struct DoubleVote {
        delegate_id: String,
        sender: Py<PyBytes>,
        nonce: u64,
        transaction_ids: (Py<PyBytes>, Py<PyBytes>),
        signatures: (Py<PyBytes>, Py<PyBytes>),
    }

    impl DoubleVote {
        fn new(py: Python<'_>, proof: &votes::DoubleVote) -> PyResult<Py<Self>> {
            let bytes = |bytes: &[u8]| PyBytes::new(py, bytes).unbind();
            let [(one, one_signature), (other, other_signature)] = &proof.votes;
            let found = Self {
                delegate_id: proof.delegate_id.clone(),
                sender: bytes(&proof.sender),
                nonce: proof.nonce,
                transaction_ids: (bytes(one), bytes(other)),
                signatures: (bytes(one_signature), bytes(other_signature)),
            };
            Py::new(py, found)
        }
    }

    type PyVote = (PyBackedStr, PyBackedBytes, PyBackedBytes, u64, PyBackedBytes);
    type PyDelegate = (String, PyBackedStr, PyBackedBytes, u64);

    #[pyfunction]
    fn dpos_parallel_collect(
        py: Python<'_>,
        votes: Items<PyVote>,
        delegates: Items<PyDelegate>,
        epoch: u64,
    ) -> PyResult<Vec<Tally>> {
        let cast = votes
            .0
            .iter()
            .map(|(delegate_id, transaction_id, sender, nonce, signature)| {
                Ok(Vote {
                    delegate_id,
                    transaction_id: id32("transaction_id", transaction_id)?,
                    sender: id32("sender", sender)?,
                    nonce: *nonce,
                    signature,
                })
            })
            .collect::<PyResult<Vec<_>>>()?;
        let registry: Vec<Delegate> = delegates
            .0
            .into_iter()
            .map(|(delegate_id, algorithm, public_key, stake)| Delegate {
                delegate_id,
                algorithm: Algorithm::named(&algorithm),
                public_key: public_key.to_vec(),
                stake,
            })
            .collect();
        let tallies = py.detach(|| votes::collect(&cast, &registry, epoch));
        tallies.into_iter().map(|tally| Tally::new(py, tally)).collect()
    }

    /// Its texts become Python objects only when somebody asks.
    #[pyclass(frozen)]
    struct Place(places::Place);

    #[pymethods]
    impl Place {
        #[getter]
        fn city(&self) -> &'static str {
            self.0.city
        }

        #[getter]
        fn country(&self) -> &'static str {
            self.0.country
        }

        #[getter]
        fn continent(&self) -> &'static str {
            self.0.continent
        }

        #[getter]
        fn h3_cell(&self) -> String {
            self.0.h3_cell.to_string()
        }

        #[getter]
        fn distance_m(&self) -> u32 {
            self.0.distance_m
        }

        #[getter]
        fn geoname_id(&self) -> u32 {
            self.0.geoname_id
        }
    }

    #[pyfunction]
    fn locate(py: Python<'_>, positions: Items<(i64, i64)>) -> PyResult<Vec<Place>> {
        let found: Vec<_> = py.detach(|| {
            positions
                .0
                .par_iter()
                .with_min_len(PLACES_A_TASK)
                .map(|&(latitude_e7, longitude_e7)| places::locate(Position { latitude_e7, longitude_e7 }))
                .collect()
        });
        found
            .into_iter()
            .enumerate()
            .map(|(index, place)| {
                place.map(Place).map_err(|field| {
                    PyValueError::new_err(format!("positions[{index}].{field} is out of range"))
                })
            })
            .collect()
    }

    #[pyfunction]
    #[pyo3(signature = (a, b, /))]
    fn distance_m(a: (i64, i64), b: (i64, i64)) -> f64 {
        let position = |(latitude_e7, longitude_e7)| Position { latitude_e7, longitude_e7 };
        places::distance_m(position(a), position(b))
    }
}
