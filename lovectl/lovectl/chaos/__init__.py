"""Breaks the running stack in named ways, and proves from a history what became of the money."""
