"""Calls a function many times in several processes, which end when this one does."""

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
from ptqdb.support.interruption import interrupts_kept

_THREAD_COUNTS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"),
)


def results_of(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], *, job_count: int = 1
) -> Iterator[tuple[int, Any]]:
    """The result of each call and its place among the calls, as they are done.

    When the iteration ends, however it does, the processes are ended at once; they also end
    within a moment of this process, even if it is killed.

    Parameters
    ----------
    function
        At the top of a module, as are the classes of arguments and results.
    calls
        The arguments of each call.
    job_count
        Processes; 1: all is done in this one.

    Raises
    ------
    PtqdbError
        A process was killed. What the function raises is raised here.
    """
    if job_count <= 1 or len(calls) <= 1:
        for place, arguments in enumerate(calls):
            with interrupts_kept():
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
        "again, with fewer --jobs where memory is short"
    )


@contextmanager
def _processes(count: int) -> Iterator[dict[Connection, SpawnProcess]]:
    """Processes that wait for work, by the connection to each."""
    context = multiprocessing.get_context("spawn")
    processes: dict[Connection, SpawnProcess] = {}
    try:
        with _single_threaded_children(), _children_without_ctrl_c():
            for _ in range(count):
                ours, theirs = context.Pipe()
                # A daemon: should this process end before it has noted the child, Python ends it.
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
    """Call what is received and send back what it gives, until nobody is there any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends Ctrl-C to all; one answers
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
    """End this process with the one that started it, also in the middle of a call.

    The parent holds one end of a pipe, which the system closes however it ends.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Let processes started within use one thread each: theirs would wait for each other."""
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
    """Block in processes started within, from their first moment, what a terminal sends to all.

    This process goes on to notice these signals: other threads of it do not block them, and
    what none receives waits.
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
