"""Writes to one tier, reads from it, and never says stored before the store has said so."""
