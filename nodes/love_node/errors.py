"""What keeps a delegate from starting, said in one message."""


class NodeError(Exception):
    """Root of the errors of a delegate."""


class BadConfig(NodeError):
    """The configuration is missing something or malformed; the message names all of it."""


class DatabaseFault(NodeError):
    """What has to be durable can't be: damaged database, or a disk that can't be written."""


class DatabaseDamaged(DatabaseFault):
    """A file holds something else than what was written into it."""


class WrongClock(NodeError):
    """This machine's clock can't be right: a delegate that trusts it must not vote."""
