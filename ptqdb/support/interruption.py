"""Ctrl-C, SIGTERM and SIGHUP end a command in order, whatever libraries make of them."""

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
"""What asks a process to end; Windows has no SIGHUP."""
SAME_REQUEST_S = 0.5
"""Signals that come together are one request: a closed terminal sends more than one."""
_SHOW_CURSOR = b"\x1b[?25h\n"

Handler = Callable[[int, FrameType | None], Any]


class Interruption(KeyboardInterrupt):
    """A signal has asked the process to end.

    Attributes
    ----------
    number
        The signal's; a process that it ended exits with 128 more.
    """

    def __init__(self, number: int):
        super().__init__()
        self.number = number


@contextmanager
def ending_signals() -> Iterator[None]:
    """Make an `Interruption` of the first signal that asks to end; the second ends at once.

    A signal that is ignored already stays so, as SIGHUP under ``nohup``. While the first one is
    being answered, nothing interrupts that: what is to be rolled back and recorded is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    # None: set by another language than Python, which cannot be put back.
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
    """Leave the process at the second request, even while the main thread is in a library.

    Handlers of Python's run between two steps of the main thread alone; but the number of each
    signal is written to a file at once, and a thread of its own reads that.
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
                        os.write(sys.stderr.fileno(), _SHOW_CURSOR)  # which a bar has hidden
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
def interrupts_kept() -> Iterator[None]:
    """End with a KeyboardInterrupt if a signal asked to end during the block, however it ends.

    Libraries look for signals in the middle of their work. DuckDB makes a RuntimeError or an
    error of its own of the KeyboardInterrupt, which would pass for a failing network; raised
    within a finalizer it is lost altogether.

    Raises
    ------
    KeyboardInterrupt
        A signal came; from the exception that left the block, if one did.
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
def interrupts_deferred() -> Iterator[None]:
    """Let a signal that asks to end wait for the end of a short block that must be whole.

    Raises
    ------
    KeyboardInterrupt
        A signal came.
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
    """Have the signals that ask to end handled by a function, which receives the former handler.

    Only those that Python handles, and only in the main thread: others see no signals.
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
