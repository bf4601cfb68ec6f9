"""Holds the native library of `cert_rust`, `federation_dag` and `flag_rust`; import those."""
