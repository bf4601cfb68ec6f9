"""Writes the audit trail: takes events off the spool in order, and chains them in immuDB."""
