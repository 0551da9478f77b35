"""Calls a function many times in several processes, which end with this one."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, cast

from ptqdb.errors import PtqdbError
from ptqdb.support.interruption import keep_interrupts

_THREAD_COUNTS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"),
)


def run_in_processes(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], *, job_count: int = 1
) -> Iterator[tuple[int, Any]]:
    """Yield the index and result of each call as it completes.

    The processes are ended as soon as the iteration ends. They also end shortly after this process
    does, even if it is killed.

    Parameters
    ----------
    function
        Picklable: defined at the top of a module, as are the classes of arguments and results.
    calls
        The arguments of each call.
    job_count
        Number of processes; 1: all calls run in this one.

    Raises
    ------
    PtqdbError
        A process was killed. Errors of the function are re-raised.
    """
    if job_count <= 1 or len(calls) <= 1:
        for place, arguments in enumerate(calls):
            with keep_interrupts():
                result = function(*arguments)
            yield place, result
        return
    waiting = deque(enumerate(calls))
    with _processes(min(job_count, len(calls))) as processes:
        for connection in processes:
            connection.send(function)
            connection.send(waiting.popleft())
        busy = set(processes)
        while busy:
            for connection in cast("list[Connection]", wait(list(busy))):
                try:
                    place, result, error = connection.recv()
                    if waiting and error is None:
                        connection.send(waiting.popleft())
                    else:
                        busy.remove(connection)
                except (EOFError, ConnectionError) as gone:
                    raise _killed(processes[connection]) from gone
                if error is not None:
                    raise error
                yield place, result


def _killed(process: SpawnProcess) -> PtqdbError:
    process.join()
    code = process.exitcode or 0
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return PtqdbError(
        f"expected each process to finish its work, found one ended by {how}; run the same command "
        "again, with fewer --jobs if memory is short"
    )


@contextmanager
def _processes(count: int) -> Iterator[dict[Connection, SpawnProcess]]:
    """Start processes that wait for work; keyed by their connections."""
    context = multiprocessing.get_context("spawn")
    processes: dict[Connection, SpawnProcess] = {}
    try:
        with _single_threaded_children(), _children_without_ctrl_c():
            for _ in range(count):
                ours, theirs = context.Pipe()
                # A daemon: Python ends it if this process ends before it registers the child.
                process = context.Process(target=_work, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                processes[ours] = process
        yield processes
    finally:
        for process in processes.values():
            process.kill()
        for connection, process in processes.items():
            process.join()
            connection.close()


def _work(connection: Connection) -> None:
    """Receive calls and send back their results until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent handles it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):
        function = connection.recv()
        while True:
            place, arguments = connection.recv()
            connection.send((place, *_answer(function, arguments)))


def _answer(
    function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Any, Exception | None]:
    try:
        return function(*arguments), None
    except Exception as error:
        error.add_note(traceback.format_exc())
        return None, error


def _end_with_parent() -> None:
    """End this process when its parent ends, even during a call.

    The parent holds one end of a pipe, which the system closes when the parent ends.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Limit processes started within to one thread each: more would compete for the cores."""
    before = {name: os.environ.get(name) for name in _THREAD_COUNTS}
    os.environ.update(dict.fromkeys(_THREAD_COUNTS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _children_without_ctrl_c() -> Iterator[None]:
    """Block the terminal's signals in processes started within, from their start.

    This process still receives them: its other threads do not block them, and signals that no
    thread can receive stay pending.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which unblocks SIGINT when it is started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
