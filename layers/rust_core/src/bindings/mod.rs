//! The Python face: one submodule for each of the three import names.

mod buffers;
mod cert_rust;
mod federation_dag;
mod flag_rust;

use pyo3::prelude::*;

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

/// Bytes of exactly 32, or a `ValueError` that names what they should be.
fn id32(name: &str, bytes: &[u8]) -> PyResult<[u8; 32]> {
    bytes.try_into().map_err(|_| {
        pyo3::exceptions::PyValueError::new_err(format!("{name} is 32 bytes, not {}", bytes.len()))
    })
}
