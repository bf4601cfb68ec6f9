//! Python binding of `canonical`, `signatures`, `dependencies`, `votes` and `places`.

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

create_exception!(federation_dag, CanonicalError, PyValueError);

#[pymodule]
pub mod federation_dag {
    use super::CanonicalError as CanonicalErrorType;
    use crate::bindings::id32;
    use crate::canonical::{self, CanonicalError};
    use crate::places::{self, Position};
    use crate::signatures::{self, Algorithm, Signed};
    use crate::votes::{self, Delegate, Vote};
    use crate::{certificates, dependencies};
    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;
    use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
    use pyo3::types::PyBytes;
    use rayon::prelude::*;

    /// Fewer positions than this are not worth waking another thread.
    const PLACES_A_TASK: usize = 64;

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

    #[pyfunction]
    fn transaction_id<'py>(py: Python<'py>, document: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let id =
            py.detach(|| canonical::transaction_id(document)).map_err(|error| not_canonical(py, error))?;
        Ok(PyBytes::new(py, &id))
    }

    #[pyfunction]
    fn signing_bytes<'py>(py: Python<'py>, document: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let bytes =
            py.detach(|| canonical::signing_bytes(document)).map_err(|error| not_canonical(py, error))?;
        Ok(PyBytes::new(py, &bytes))
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

    #[pyfunction]
    fn batch_verify(
        py: Python<'_>,
        items: Vec<(PyBackedStr, PyBackedBytes, PyBackedBytes, PyBackedBytes)>,
    ) -> Vec<bool> {
        py.detach(|| {
            let signed: Vec<Signed<'_>> = items
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

    #[pyfunction]
    fn resolve_object_deps(
        py: Python<'_>,
        items: Vec<(Vec<PyBackedBytes>, Vec<PyBackedBytes>)>,
    ) -> PyResult<Vec<Vec<usize>>> {
        let ids = |ids: &[PyBackedBytes]| {
            ids.iter().map(|id| id32("an object id", id)).collect::<PyResult<Vec<_>>>()
        };
        let sets = items
            .iter()
            .map(|(reads, writes)| Ok((ids(reads)?, ids(writes)?)))
            .collect::<PyResult<Vec<_>>>()?;
        Ok(py.detach(|| {
            let layers =
                dependencies::layers(sets.iter().map(|(reads, writes)| (reads.iter(), writes.iter())));
            dependencies::grouped(&layers)
        }))
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
    struct Tally {
        transaction_id: Py<PyBytes>,
        r#final: bool,
        stake: u128,
        voters: Vec<String>,
        refused: Vec<String>,
    }

    type PyVote = (PyBackedStr, PyBackedBytes, PyBackedBytes, u64, PyBackedBytes);
    type PyDelegate = (String, PyBackedStr, PyBackedBytes, u64);

    #[pyfunction]
    fn dpos_parallel_collect(
        py: Python<'_>,
        votes: Vec<PyVote>,
        delegates: Vec<PyDelegate>,
        epoch: u64,
    ) -> PyResult<Vec<Tally>> {
        let cast = votes
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
            .into_iter()
            .map(|(delegate_id, algorithm, public_key, stake)| Delegate {
                delegate_id,
                algorithm: Algorithm::named(&algorithm),
                public_key: public_key.to_vec(),
                stake,
            })
            .collect();
        let tallies = py.detach(|| votes::collect(&cast, &registry, epoch));
        Ok(tallies
            .into_iter()
            .map(|tally| Tally {
                transaction_id: PyBytes::new(py, &tally.transaction_id).unbind(),
                r#final: tally.is_final,
                stake: tally.stake,
                voters: tally.voters,
                refused: tally.refused,
            })
            .collect())
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
    fn locate(py: Python<'_>, positions: Vec<(i64, i64)>) -> PyResult<Vec<Place>> {
        let found: Vec<_> = py.detach(|| {
            positions
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
