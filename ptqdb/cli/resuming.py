"""What a command that resumes says when it is interrupted."""

from dataclasses import dataclass

import typer


@dataclass
class Resumption:
    """The object of a command's context; its hint is printed after an interruption."""

    hint: str = ""


def resumes(context: typer.Context, hint: str = "Run the same command again to resume.") -> None:
    """Let an interruption of this command from now on say how it resumes."""
    context.ensure_object(Resumption).hint = hint
