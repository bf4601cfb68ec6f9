//! Python binding of `certificates` and `sealing`.

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

create_exception!(cert_rust, CertificateError, PyValueError);
create_exception!(cert_rust, SealError, PyValueError);

#[pymodule]
pub mod cert_rust {
    use super::{CertificateError as CertificateErrorType, SealError as SealErrorType};
    use crate::certificates::{self, Refusal};
    use crate::sealing;
    use pyo3::prelude::*;
    use pyo3::types::PyBytes;
    use std::sync::Arc;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("CONTENT_KEY_USES_MAX", sealing::CONTENT_KEY_USES_MAX)?;
        module.add("CONTENT_KEY_LIFETIME_S", sealing::CONTENT_KEY_LIFETIME_S)?;
        module.add("CertificateError", module.py().get_type::<CertificateErrorType>())?;
        module.add("SealError", module.py().get_type::<SealErrorType>())
    }

    fn refused(py: Python<'_>, refusal: Refusal) -> PyErr {
        let error = CertificateErrorType::new_err(format!("certificate refused: {}", refusal.code()));
        match error.value(py).setattr("reason", refusal.code()) {
            Ok(()) => error,
            Err(other) => other,
        }
    }

    fn not_opened(_: sealing::SealError) -> PyErr {
        SealErrorType::new_err("not sealed for this key and associated data")
    }

    #[pyclass(frozen)]
    struct Authority(certificates::Authority);

    #[pymethods]
    impl Authority {
        #[new]
        #[pyo3(signature = (ca_der, crl_der))]
        fn new(py: Python<'_>, ca_der: &[u8], crl_der: Option<&[u8]>) -> PyResult<Self> {
            py.detach(|| certificates::Authority::new(ca_der, crl_der))
                .map(Self)
                .map_err(|refusal| refused(py, refusal))
        }

        fn check(&self, py: Python<'_>, der: &[u8], now_s: u64) -> PyResult<Account> {
            // To let go of the GIL and to fetch it again would cost more than a known answer does.
            self.0
                .check_known(der, now_s)
                .unwrap_or_else(|| py.detach(|| self.0.check_new(der, now_s)))
                .map(Account)
                .map_err(|refusal| refused(py, refusal))
        }

        fn replace_crl(&self, py: Python<'_>, crl_der: &[u8]) -> PyResult<()> {
            py.detach(|| self.0.replace_crl(crl_der)).map_err(|refusal| refused(py, refusal))
        }
    }

    #[pyclass(frozen)]
    struct Account(Arc<certificates::Account>);

    #[pymethods]
    impl Account {
        #[getter]
        fn account_id(&self) -> String {
            self.0.account_id()
        }

        #[getter]
        fn home_continent(&self) -> Option<&'static str> {
            self.0.home_continent()
        }

        #[getter]
        fn algorithm(&self) -> &'static str {
            self.0.algorithm().name()
        }

        #[getter]
        fn public_key(&self) -> &[u8] {
            self.0.public_key()
        }

        #[getter]
        fn serial(&self) -> &[u8] {
            self.0.serial()
        }

        #[getter]
        fn not_after_s(&self) -> u64 {
            self.0.not_after_s()
        }

        #[getter]
        fn fingerprint_sha256(&self) -> &[u8] {
            self.0.fingerprint_sha256()
        }
    }

    #[pyfunction]
    fn hybrid_keygen(py: Python<'_>) -> PyResult<(Bound<'_, PyBytes>, Bound<'_, PyBytes>)> {
        let (private, public) = py.detach(sealing::keygen).map_err(not_opened)?;
        Ok((PyBytes::new(py, &private), PyBytes::new(py, &public)))
    }

    type Sealed<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

    #[pyfunction]
    fn hybrid_seal<'py>(
        py: Python<'py>,
        public_key: &[u8],
        content: &[u8],
        associated_data: &[u8],
    ) -> PyResult<Sealed<'py>> {
        let sealer = sealing::ContentSealer::new(public_key, 1, sealing::CONTENT_KEY_LIFETIME_S)
            .map_err(not_opened)?;
        sealed(py, &sealer, content, associated_data)
    }

    #[pyfunction]
    fn hybrid_open<'py>(
        py: Python<'py>,
        private_key: &[u8],
        wrapped_key: &[u8],
        ciphertext: &[u8],
        associated_data: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let content_len = sealing::content_len(ciphertext).map_err(not_opened)?;
        PyBytes::new_with(py, content_len, |content| {
            py.detach(|| sealing::open_into(private_key, wrapped_key, ciphertext, associated_data, content))
                .map_err(not_opened)
        })
    }

    fn sealed<'py>(
        py: Python<'py>,
        sealer: &sealing::ContentSealer,
        content: &[u8],
        associated_data: &[u8],
    ) -> PyResult<Sealed<'py>> {
        let mut content_key = None;
        let ciphertext = PyBytes::new_with(py, content.len() + sealing::SEALED_OVERHEAD, |ciphertext| {
            let used = py.detach(|| sealer.seal_into(content, associated_data, ciphertext));
            content_key = Some(used.map_err(not_opened)?);
            Ok(())
        })?;
        let content_key = content_key.ok_or_else(|| not_opened(sealing::SealError))?;
        Ok((PyBytes::new(py, content_key.wrapped()), ciphertext))
    }

    #[pyclass(frozen)]
    struct ContentSealer {
        sealer: sealing::ContentSealer,
        #[pyo3(get)]
        key_id: String,
    }

    #[pymethods]
    impl ContentSealer {
        #[new]
        #[pyo3(signature = (public_key, key_id, uses_max = sealing::CONTENT_KEY_USES_MAX, lifetime_s = sealing::CONTENT_KEY_LIFETIME_S))]
        fn new(public_key: &[u8], key_id: String, uses_max: u64, lifetime_s: u64) -> PyResult<Self> {
            let sealer = sealing::ContentSealer::new(public_key, uses_max, lifetime_s).map_err(|_| {
                SealErrorType::new_err("public_key, uses_max or lifetime_s is out of its limits")
            })?;
            Ok(Self { sealer, key_id })
        }

        fn seal<'py>(
            &self,
            py: Python<'py>,
            content: &[u8],
            associated_data: &[u8],
        ) -> PyResult<Sealed<'py>> {
            sealed(py, &self.sealer, content, associated_data)
        }
    }
}
