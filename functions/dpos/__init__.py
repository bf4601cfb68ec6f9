"""Delegated proof of stake: signatures, order, and the delegates' votes."""
