"""What becomes of the errors that a network's own code raises: any error may be one of them."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ptqdb.errors import DatabaseError, DataError, PtqdbError

LONGEST_MESSAGE = 1000
"""Characters; some messages quote a whole tensor."""


def one_line(error: BaseException) -> str:
    """Kind and message of an error, in one line; of ptqdb's own the message alone."""
    message = textwrap.shorten(str(error), LONGEST_MESSAGE)
    if isinstance(error, PtqdbError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def is_of_network(error: BaseException) -> bool:
    """Whether an error says something about the network, and not about the user or the database.

    ``SystemExit`` does: some code calls ``sys.exit`` where it finds numbers that it cannot use.
    """
    return not isinstance(error, KeyboardInterrupt | DatabaseError)


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether the machine has too little memory: elsewhere the same code may succeed."""
    is_named_so = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return is_named_so or "can't allocate memory" in str(error)


@contextmanager
def own_errors_as_data_errors() -> Iterator[None]:
    """Make a ``DataError`` of one line of whatever a network's own code raises in the block.

    Raises
    ------
    DataError
        The network's code raised an error that is none of ptqdb or the user.
    """
    try:
        yield
    except PtqdbError:
        raise
    except BaseException as error:
        if not is_of_network(error):
            raise
        raise DataError(one_line(error)) from error
