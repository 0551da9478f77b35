"""The hint that a resumable command prints when interrupted."""

from dataclasses import dataclass

import typer


@dataclass
class Resumption:
    """The object of a command's context; holds the hint to print after an interruption."""

    hint: str = ""


def resumes(context: typer.Context, hint: str = "Run the same command again to resume.") -> None:
    """Set the hint to print if this command is interrupted from now on."""
    context.ensure_object(Resumption).hint = hint
