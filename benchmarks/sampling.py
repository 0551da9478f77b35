"""Where the time of a collection goes: the main thread's stack, looked at every few milliseconds.

Nothing in ptqdb is wrapped or changed, so that its functions may be renamed: what has no rule
of its own falls to its module's.
"""

import sys
import threading
import time
from collections import Counter
from types import FrameType, TracebackType

INTERVAL_S = 0.005

EVALUATION, FACTS, CALIBRATION = "evaluation", "facts of the formats", "calibration"
FLOAT, REST = "float network", "loading and the rest"
DATABASE, OPENING = "writing and deriving", "creating the database"
PHASES = (EVALUATION, FACTS, CALIBRATION, FLOAT, DATABASE, OPENING, REST)

# By the end of a file's name and a function; None stands for the module's other functions.
RULES: dict[tuple[str, str | None], str] = {
    ("ptqdb/measurement/evaluation.py", "of_codes"): EVALUATION,
    ("ptqdb/measurement/evaluation.py", None): FLOAT,
    ("ptqdb/measurement/batches.py", None): FLOAT,
    ("ptqdb/measurement/network.py", "quantized_facts"): FACTS,
    ("ptqdb/measurement/network.py", "facts_without_codes"): FACTS,
    ("ptqdb/measurement/network.py", "code"): FACTS,
    ("ptqdb/measurement/network.py", "float_facts"): FLOAT,
    ("ptqdb/measurement/network.py", "_measure_inputs"): CALIBRATION,
    ("ptqdb/quantization/network.py", "input_ranges"): CALIBRATION,
    ("ptqdb/collection/rows.py", None): DATABASE,
    ("ptqdb/database/opening.py", None): OPENING,
    ("ptqdb/database/files.py", None): OPENING,
    ("ptqdb/database/schema.py", None): OPENING,
    ("ptqdb/database/snapshots.py", None): DATABASE,
    ("ptqdb/database/writing.py", None): DATABASE,
    ("ptqdb/database/reading.py", None): DATABASE,
    ("ptqdb/database/definitions.py", None): OPENING,
}
# A statement that the sweep runs itself has no frame of its own: the sweep's is the innermost.
INNERMOST_MEANS_DATABASE = "ptqdb/collection/sweep.py"


class PhaseSampler:
    """Adds up wall time by phase while the block runs in the thread that entered it."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._ended = threading.Event()
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PhaseSampler":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.perf_counter()
        while not self._ended.wait(INTERVAL_S):
            frame = sys._current_frames().get(self._watched)
            now = time.perf_counter()
            if frame is not None:
                self.seconds[phase_of(frame)] += now - before
            before = now


def phase_of(frame: FrameType | None) -> str:
    """The phase of a stack, by the outermost of its functions that has one."""
    found, innermost = REST, frame.f_code.co_filename if frame is not None else ""
    while frame is not None:
        place, name = frame.f_code.co_filename, frame.f_code.co_name
        for known in ((file, only) for file, only in RULES if place.endswith(file)):
            if known[1] == name:
                found = RULES[known]
                break
            if known[1] is None:
                found = RULES[known]
        frame = frame.f_back
    if found == REST and innermost.endswith(INNERMOST_MEANS_DATABASE):
        return DATABASE
    return found
