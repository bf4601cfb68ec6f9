"""Two interpreters of the state language, with the same mocked task results."""
