"""Sends a canary through every tier each minute, and tells how it fared."""
