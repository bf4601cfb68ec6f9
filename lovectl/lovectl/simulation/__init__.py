"""Simulations of the federation's delegates: conflicting transactions, and the backup routes."""
