"""A voting delegate in a process of its own, to be killed, and what checks its signatures."""
