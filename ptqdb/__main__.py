"""``python -m ptqdb``."""

from ptqdb.cli import main

main()
