"""End a command cleanly on Ctrl-C, SIGTERM or SIGHUP, even while a library handles signals."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that ask a process to end; Windows has no SIGHUP."""
SAME_REQUEST_S = 0.5
"""Signals this close together are one request: a closed terminal sends several."""
_SHOW_CURSOR = b"\x1b[?25h\n"

Handler = Callable[[int, FrameType | None], Any]


class Interruption(KeyboardInterrupt):
    """A signal asked the process to end.

    Attributes
    ----------
    number
        The signal's number; the process exits with 128 + number.
    """

    def __init__(self, number: int):
        super().__init__()
        self.number = number


@contextmanager
def end_on_signals() -> Iterator[None]:
    """Raise an `Interruption` at the first signal that asks to end; exit at once at the second.

    Signals that are already ignored stay ignored, such as SIGHUP under ``nohup``. Further signals
    do not interrupt the handling of the first, so rollback and recording complete.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    # None: not installed from Python, so it cannot be restored.
    caught = [one for one, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    is_ending = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal is_ending
        if not is_ending:
            is_ending = True
            raise Interruption(number)

    with _second_ends(caught):
        try:
            for number in caught:
                signal.signal(number, end)
            yield
        finally:
            for number in caught:
                signal.signal(number, before[number])


@contextmanager
def _second_ends(numbers: Collection[int]) -> Iterator[None]:
    """Exit the process at the second request, even while the main thread is in a library.

    Python runs signal handlers only between bytecodes of the main thread. The number of each signal
    is written to a file descriptor at once, and a separate thread reads it.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def watch() -> None:
        first_at: float | None = None
        while received := reader.recv(64):
            for number in set(numbers).intersection(received):
                now = time.monotonic()
                if first_at is None:
                    first_at = now
                elif now - first_at > SAME_REQUEST_S:
                    if sys.stderr is not None and sys.stderr.isatty():
                        os.write(sys.stderr.fileno(), _SHOW_CURSOR)  # hidden by a progress bar
                    os._exit(128 + number)

    thread = threading.Thread(target=watch, daemon=True)
    earlier = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        thread.start()
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        writer.close()
        thread.join()
        reader.close()


@contextmanager
def keep_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt after the block, however it ends, if a signal asked to end.

    Libraries check for signals during their work. DuckDB turns the KeyboardInterrupt into a
    RuntimeError or an error of its own, which would look like a failing network. Raised inside a
    finalizer, it is lost.

    Raises
    ------
    KeyboardInterrupt
        A signal arrived; chained to the exception that left the block, if any.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None, handler: Handler) -> None:
        came.append(number)
        handler(number, frame)

    try:
        with _handled(note):
            yield
    except BaseException as error:
        if came and not isinstance(error, Interruption):
            raise Interruption(came[0]) from error
        raise
    if came:
        raise Interruption(came[0])


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Defer signals that ask to end until a short block that must not be interrupted is done.

    Raises
    ------
    KeyboardInterrupt
        A signal arrived.
    """
    came: list[tuple[int, Handler]] = []

    def note(number: int, frame: FrameType | None, handler: Handler) -> None:
        came.append((number, handler))

    try:
        with _handled(note):
            yield
    finally:
        if came:
            number, handler = came[0]
            handler(number, None)


@contextmanager
def _handled(note: Callable[[int, FrameType | None, Handler], None]) -> Iterator[None]:
    """Handle the signals that ask to end with a function, which receives the previous handler.

    Applies only to signals that Python handles, and only in the main thread: other threads receive
    no signals.
    """
    before: dict[int, Handler] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in ENDING}
        before = {one: handler for one, handler in handlers.items() if callable(handler)}
    try:
        for one in before:
            signal.signal(one, lambda number, frame: note(number, frame, before[number]))
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
