"""Proof of Place: where a transaction was made, and whether it can have been."""
