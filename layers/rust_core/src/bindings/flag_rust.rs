//! Python binding of `flags`.

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

create_exception!(flag_rust, FlagError, PyValueError);

#[pymodule]
pub mod flag_rust {
    use super::FlagError as FlagErrorType;
    use crate::bindings::Items;
    use crate::flags;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        for (name, bit) in [
            ("VERIFIED", flags::VERIFIED),
            ("PLACED", flags::PLACED),
            ("VOTED", flags::VOTED),
            ("FINAL", flags::FINAL),
            ("SHARDED", flags::SHARDED),
            ("REWARDED", flags::REWARDED),
            ("STORED_ATLAS", flags::STORED_ATLAS),
            ("STORED_DYNAMODB", flags::STORED_DYNAMODB),
            ("STORED_IMMUDB", flags::STORED_IMMUDB),
            ("RECONCILED", flags::RECONCILED),
        ] {
            module.add(name, bit)?;
        }
        module.add("FlagError", module.py().get_type::<FlagErrorType>())
    }

    #[pyfunction]
    fn merge(left: u32, right: u32) -> u32 {
        flags::merge(left, right)
    }

    #[pyfunction]
    fn check(flags: u32) -> PyResult<()> {
        flags::check(flags).map_err(FlagErrorType::new_err)
    }

    #[pyfunction]
    fn names(flags: u32) -> Vec<&'static str> {
        flags::names(flags)
    }

    #[pyfunction]
    fn from_names(names: Items<String>) -> PyResult<u32> {
        flags::from_names(names.0.iter().map(String::as_str)).map_err(FlagErrorType::new_err)
    }
}
