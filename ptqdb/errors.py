"""The errors that ptqdb raises on purpose: what was expected, what was found, what to do."""


class PtqdbError(Exception):
    """Base class: the message is one line that a user can act on."""


class UsageError(PtqdbError, ValueError):
    """An argument names something that does not exist or cannot be combined."""


class DataError(PtqdbError, ValueError):
    """Images, a checkpoint or a table do not have the shape that is needed."""


class ContradictionError(DataError):
    """Facts that contradict each other; the message goes on with some of them, as a table."""


class DatabaseError(PtqdbError, RuntimeError):
    """The database file cannot be opened, is locked, damaged or of another version."""


class QueryError(PtqdbError, ValueError):
    """A SQL query that failed; the message is DuckDB's own, with the position."""


class UnsupportedLayerError(PtqdbError, NotImplementedError):
    """A layer whose facts cannot be measured; the message names it."""


class MismatchError(PtqdbError, ValueError):
    """What was asked for does not fit what is stored; the message names the argument."""


class MissingExtraError(PtqdbError, ImportError):
    """A package that is needed only for what was asked; the message says how to install it."""
