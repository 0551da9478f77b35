"""The command ``ptqdb``, and ``python -m ptqdb``."""

import sys


def main() -> None:
    """Run the command line, whose import takes a moment: Ctrl-C is no traceback then either."""
    try:
        from ptqdb.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
