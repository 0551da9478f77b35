"""Real signals to real processes: which end them, how soon, and what they leave behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import duckdb
import pytest

from ptqdb.__main__ import main
from ptqdb.database import connect
from ptqdb.database.embedded_facts import open_embedded_facts
from ptqdb.errors import PtqdbError
from ptqdb.resources import data_folder
from ptqdb.support.interruption import (
    Interruption,
    defer_interrupts,
    end_on_signals,
    keep_interrupts,
)
from ptqdb.support.workers import run_in_processes

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
SOON_S = 60.0
"""Longer than anything here takes on a busy machine; what must be quick says so itself."""


@contextmanager
def started(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, as a shell starts it; killed with all its children."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        # the tests themselves may run under nohup
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def until_ended(process: subprocess.Popen[str]) -> tuple[str, str, float]:
    """What it and all its children still print, and in how many seconds the last of them ended.

    A pipe ends when nobody holds its other end any more, and each of them does.
    """
    sent_at = time.monotonic()
    out, err = process.communicate(timeout=SOON_S)
    return out, err, time.monotonic() - sent_at


# --- one process -----------------------------------------------------------------------------

ANSWERING = """
import time
from ptqdb.support.interruption import Interruption, end_on_signals
try:
    with end_on_signals():
        try:
            print("ready", flush=True)
            time.sleep(600)
        finally:
            print("answering", flush=True)
            time.sleep({seconds})
            print("answered", flush=True)
except Interruption as error:
    raise SystemExit(128 + error.number)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_is_answered_and_one_right_after_it_belongs_to_it(
    number: signal.Signals, code: int
) -> None:
    """A terminal that closes sends SIGHUP more than once."""
    with started("-c", ANSWERING.format(seconds=0.2)) as process:
        assert line(process) == "ready"
        process.send_signal(number)
        assert line(process) == "answering"
        process.send_signal(number)
        out, err, _ = until_ended(process)
    assert (out, err, process.returncode) == ("answered\n", "", code)


def test_a_second_ctrl_c_ends_at_once() -> None:
    with started("-c", ANSWERING.format(seconds=600)) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGINT)
        assert line(process) == "answering"
        assert pressed_until_ended(process) < 10
        out, err, _ = until_ended(process)
    assert (out, err, process.returncode) == ("", "", 130)


@pytest.mark.skipif(sys.platform != "linux", reason="a mutex of zeros is one of Linux")
def test_a_second_ctrl_c_ends_a_library_that_never_returns() -> None:
    script = (
        "import ctypes, threading\nfrom ptqdb.support.interruption import end_on_signals\n"
        "with end_on_signals():\n"
        "    threading.Timer(0.3, print, ('ready',), {'flush': True}).start()\n"
        "    mutex = ctypes.create_string_buffer(64)\n"
        "    ctypes.CDLL(None).pthread_mutex_lock(mutex)\n"
        "    ctypes.CDLL(None).pthread_mutex_lock(mutex)\n"  # held by itself
    )
    with started("-c", script) as process:
        assert line(process) == "ready"
        assert pressed_until_ended(process) < 10
    assert process.returncode == 130


def pressed_until_ended(process: subprocess.Popen[str]) -> float:
    """Press Ctrl-C until the process has ended; in how many seconds it has."""
    begun_at = time.monotonic()
    while process.poll() is None and time.monotonic() - begun_at < SOON_S:
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    return time.monotonic() - begun_at


def test_nohup_holds() -> None:
    script = (
        "import signal\nfrom ptqdb.support.interruption import end_on_signals\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"  # as nohup leaves it
        "with end_on_signals():\n"
        "    print('ready', flush=True)\n"
        "    input()\n"
        "    print('whole', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate("\n", timeout=SOON_S)
    assert (out, process.returncode) == ("whole\n", 0)


def test_handlers_are_put_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]

    def ended() -> None:
        with end_on_signals(), keep_interrupts():
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interruption) as found:
        ended()
    assert found.value.number == signal.SIGTERM
    assert [signal.getsignal(number) for number in numbers] == before
    with end_on_signals(), keep_interrupts(), defer_interrupts():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_deferred_signal_comes_at_the_end() -> None:
    done = []

    def ended() -> None:
        with end_on_signals(), defer_interrupts():
            signal.raise_signal(signal.SIGTERM)
            done.append("whole")

    with pytest.raises(Interruption):
        ended()
    assert done == ["whole"]


def test_a_signal_whose_exception_a_library_replaces_is_kept() -> None:
    def ended() -> None:
        with end_on_signals(), keep_interrupts():
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt as error:
                raise RuntimeError("Query interrupted") from error

    with pytest.raises(Interruption) as found:
        ended()
    assert found.value.number == signal.SIGTERM
    assert isinstance(found.value.__cause__, RuntimeError)


def test_ctrl_c_while_the_command_line_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Importing(ModuleType):
        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "ptqdb.cli", Importing("ptqdb.cli"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Interrupted.\n"


# --- processes that work for another ---------------------------------------------------------

WORKING = """
import sys
from ptqdb.support.interruption import end_on_signals
from ptqdb.support.workers import run_in_processes
if __name__ == "__main__":
    busy = "import os; print(os.getpid(), flush=True)\\nwhile True: pass"
    with end_on_signals():
        list(run_in_processes(exec, [(busy,), (busy,)], job_count=2))
"""


@pytest.fixture
def working(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with two workers in the middle of what never ends."""
    script = tmp_path / "working.py"
    script.write_text(WORKING)
    with started(script) as process:
        assert len({line(process), line(process)}) == 2
        yield process


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_workers_end_with_their_parent(
    working: subprocess.Popen[str], number: signal.Signals
) -> None:
    working.send_signal(number)
    _, err, seconds = until_ended(working)
    assert seconds < 10
    assert "Process Spawn" not in err


def test_ctrl_c_of_a_terminal_reaches_the_workers_and_prints_nothing_of_theirs(
    working: subprocess.Popen[str],
) -> None:
    os.killpg(working.pid, signal.SIGINT)
    _, err, seconds = until_ended(working)
    assert seconds < 10
    assert err.count("Traceback") == 1  # the parent's, which catches nothing here
    assert "Process Spawn" not in err


def test_what_a_terminal_sends_to_all_passes_workers_by_from_their_first_moment() -> None:
    pressed = (
        "import os, signal\n"
        "for number in (signal.SIGINT, signal.SIGHUP):\n"
        "    os.kill(os.getpid(), number)\n"
        "    assert number in signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
    )
    assert len(list(run_in_processes(exec, [(pressed,), (pressed,)], job_count=2))) == 2


def test_a_worker_that_is_killed_is_said() -> None:
    killing = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(PtqdbError, match=r"found one ended by signal SIGKILL; run .* fewer jobs"):
        list(run_in_processes(exec, [("while True: pass",), (killing,)], job_count=2))


def test_what_a_call_raises_is_raised_here() -> None:
    with pytest.raises(ValueError, match="invalid literal") as found:
        list(run_in_processes(int, [("1",), ("one",)], job_count=2))
    assert "workers.py" in found.value.__notes__[0]


def test_results_come_as_they_are_done() -> None:
    waiting = "import time; time.sleep(600)"
    results = run_in_processes(exec, [(waiting,), ("",), ("",)], job_count=2)
    assert sorted((next(results), next(results))) == [(1, None), (2, None)]
    results.close()  # type: ignore[attr-defined]


# --- the commands ----------------------------------------------------------------------------


@pytest.fixture
def facts(tmp_path: Path, user_cache: Path) -> Path:
    """The embedded study in a file of its own."""
    open_embedded_facts().__enter__().close()
    (cached,) = (user_cache / "ptqdb").glob("*.duckdb")
    return Path(shutil.copy(cached, tmp_path / "study.duckdb"))


def fit_count(path: Path) -> int:
    with connect(path, read_only=True) as connection:
        row = connection.execute("select count(*) from fit").fetchone()
    assert row is not None
    return int(row[0])


COMPARE = ("-m", "ptqdb", "compare", "l2_flops", "--curves", "linear,isotonic,rational3")


def until_some_are_kept(process: subprocess.Popen[str], path: Path) -> None:
    """Wait for the first write: DuckDB appends what is committed to a file beside."""
    log = path.with_name(f"{path.name}.wal")
    while not (log.exists() and log.stat().st_size > 0):
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "code"),
    [
        (lambda pid: os.killpg(pid, signal.SIGINT), 130),
        (lambda pid: os.kill(pid, signal.SIGTERM), 143),
        (lambda pid: os.kill(pid, signal.SIGKILL), -9),
    ],
)
def test_a_stopped_comparison_keeps_what_was_fitted_and_resumes(
    facts: Path, stop: Callable[[int], None], code: int
) -> None:
    with started(*COMPARE, "--jobs", "2", "--db", facts) as process:
        until_some_are_kept(process, facts)
        stop(process.pid)
        _, err, seconds = until_ended(process)
    assert process.returncode == code
    assert seconds < 10
    assert "Traceback" not in err
    if code > 0:
        assert err.endswith("Interrupted. Run the same command again to resume.\n")
    kept = fit_count(facts)
    assert 0 < kept < 9
    with started(*COMPARE, "--jobs", "2", "--db", facts) as process:
        _, err, _ = until_ended(process)
    assert f"{9 - kept} curves to fit, {kept} already present" in err
    assert fit_count(facts) == 9


@pytest.mark.slow
def test_a_stopped_report_leaves_no_process_and_no_page(facts: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    with started("-m", "ptqdb", "report", "--db", facts, "--jobs", "2", "-o", page) as process:
        assert process.stderr is not None
        while "curves to fit" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, err, seconds = until_ended(process)
    assert process.returncode == 143
    assert seconds < 10
    assert err == "Interrupted.\n"
    assert not page.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_stopped_collection_is_recorded(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    database = tmp_path / "stopped.duckdb"
    few = ("--images", "50", "--calibration", "16", "--network", "AlexNet", "--db", database)
    with started("-m", "ptqdb", "collect", *few) as process:
        assert process.stderr is not None
        while "AlexNet: calibrating" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        _, err, _ = until_ended(process)
    assert process.returncode == code
    assert err.endswith("Interrupted. Run the same command again to resume.\n")
    assert "Traceback" not in err
    with duckdb.connect(database, read_only=True) as connection:
        found = connection.execute("select outcome, failures from collection_run").fetchall()
    assert found == [("interrupted", [])]


@pytest.mark.slow
def test_a_stopped_import_leaves_nothing_of_it(tmp_path: Path) -> None:
    database = tmp_path / "imported.duckdb"
    command = ("-m", "ptqdb", "import", data_folder() / "embedded" / "facts", "--db", database)
    with started(*command) as process:
        while not database.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, err, _ = until_ended(process)
    assert (process.returncode, err) == (143, "Interrupted.\n")
    with connect(database, read_only=False) as connection:
        assert connection.execute("select count(*) from network").fetchall() == [(0,)]
    with started(*command) as process:
        _, err, _ = until_ended(process)
    assert process.returncode == 0
    assert "added 5 networks" in err
