"""Ctrl-C stays a KeyboardInterrupt, whatever a library makes of it on the way."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """End with a KeyboardInterrupt if Ctrl-C came during the block, however the block ends.

    Libraries look for signals in the middle of their work. DuckDB makes a RuntimeError or an
    error of its own of the KeyboardInterrupt, which would pass for a failing network; raised
    within a finalizer it is lost altogether.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C came; from the exception that left the block, if one did.
    """
    handler = signal.getsignal(signal.SIGINT)
    # Other threads than the main one see no signals; and SIGINT may be ignored.
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        raise KeyboardInterrupt
