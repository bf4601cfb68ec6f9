//! The Python face: one submodule for each of the three import names.

mod buffers;
mod cert_rust;
mod electorate;
mod federation_dag;
mod flag_rust;

use pyo3::conversion::FromPyObjectOwned;
use pyo3::prelude::*;
use pyo3::types::PyList;

/// The native part of `cert_rust`, `federation_dag` and `flag_rust`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::cert_rust::cert_rust;
    #[pymodule_export]
    use super::federation_dag::federation_dag;
    #[pymodule_export]
    use super::flag_rust::flag_rust;
}

/// The items of a list. Any other sequence is a `TypeError`: one may say that it is longer than any
/// memory, and PyO3's own conversion into a `Vec` makes room for what it says.
struct Items<T>(Vec<T>);

impl<'a, 'py, T: FromPyObjectOwned<'py>> FromPyObject<'a, 'py> for Items<T> {
    type Error = PyErr;

    fn extract(list: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let list = list.cast::<PyList>()?;
        let mut items = Vec::with_capacity(list.len());
        for item in list.iter() {
            items.push(item.extract().map_err(Into::into)?);
        }
        Ok(Self(items))
    }
}

/// Bytes of exactly 32, or a `ValueError` that names what they should be.
fn id32(name: &str, bytes: &[u8]) -> PyResult<[u8; 32]> {
    bytes.try_into().map_err(|_| {
        pyo3::exceptions::PyValueError::new_err(format!("{name} is 32 bytes, not {}", bytes.len()))
    })
}
