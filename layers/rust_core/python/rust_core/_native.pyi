import cert_rust as cert_rust
import federation_dag as federation_dag
import flag_rust as flag_rust

__all__ = ["cert_rust", "federation_dag", "flag_rust"]
