"""A container engine for tests: this machine's own, or one out of Debian's packages."""
