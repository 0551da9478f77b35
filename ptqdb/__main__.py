"""The command ``ptqdb``, and ``python -m ptqdb``."""

import os
import sys

# Theirs is torch's own work.
WITH_THREADS = ("collect", "train")


def main() -> None:
    """Run the command line, whose import takes a moment: Ctrl-C is no traceback then either."""
    if sys.argv[1:2] and sys.argv[1] not in WITH_THREADS:
        # The matrices of a curve are tiny: threads of their linear algebra wait for each other,
        # up to eight times as long as one takes alone. NumPy reads this when it is imported.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from ptqdb.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
