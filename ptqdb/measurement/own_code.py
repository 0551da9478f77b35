"""Handling of errors raised by a network's own code: it may raise any error."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ptqdb.errors import DatabaseError, DataError, PtqdbError

LONGEST_MESSAGE = 1000
"""Maximum length in characters; some messages quote a whole tensor."""


def one_line(error: BaseException) -> str:
    """Return type and message of an error in one line; for ptqdb's errors only the message."""
    message = textwrap.shorten(str(error), LONGEST_MESSAGE)
    if isinstance(error, PtqdbError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def is_of_network(error: BaseException) -> bool:
    """Whether an error is due to the network, not to the user or the database.

    ``SystemExit`` is: some code calls ``sys.exit`` on numbers that it cannot use.
    """
    return not isinstance(error, KeyboardInterrupt | DatabaseError)


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether the machine ran out of memory: elsewhere the same code may succeed."""
    is_named_so = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return is_named_so or "can't allocate memory" in str(error)


@contextmanager
def own_errors_as_data_errors() -> Iterator[None]:
    """Convert any error of a network's own code in the block to a one-line ``DataError``.

    Raises
    ------
    DataError
        The network's code raised an error that is not due to ptqdb or the user.
    """
    try:
        yield
    except PtqdbError:
        raise
    except BaseException as error:
        if not is_of_network(error):
            raise
        raise DataError(one_line(error)) from error
