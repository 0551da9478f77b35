"""The reference of the command line, from the Typer app itself."""

from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import groupby
from typing import Any

import typer
from typer.main import get_command

from ptqdb.cli import app

OPTIONS = "Options"


def cli_page() -> str:
    """Return the page, Markdown: one section per command."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    parts = [
        "# Command line",
        "Generated from the program itself. [Using the command line](../how-to/command-line.md) "
        "explains exit codes and the options that commands share.",
    ]
    for name, command in commands.items():
        parts += _section(name, command)
    return "\n\n".join(parts) + "\n"


def _section(name: str, command: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=name)
    params = command.get_params(context)
    yield f"## ptqdb {name}"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\nptqdb {name} {usage}\n```"
    yield command.help
    if command.epilog:
        yield _examples(command.epilog)
    arguments = [param for param in params if param.param_type_name == "argument"]
    if arguments:
        yield _table("argument", arguments)
    options = [param for param in params if param.param_type_name == "option"]
    ordered = sorted(options, key=lambda param: (_panel(param) != OPTIONS, _panel(param)))
    for title, group in groupby(ordered, key=_panel):
        if title != OPTIONS:
            yield f"**{title}**"
        yield _table("option", group)


def _panel(param: Any) -> str:
    """The group that the help shows the option in."""
    return str(getattr(param, "rich_help_panel", None) or OPTIONS)


def _examples(epilog: str) -> str:
    """The commands of ``Examples: `a`; `b```, one per line."""
    commands = epilog.split("`")[1::2]
    return "\n".join(["```sh", *commands, "```"])


def _table(kind: str, params: Iterable[Any]) -> str:
    lines = [f"| {kind} | default | meaning |", "| --- | --- | --- |"]
    lines += [f"| {_names(param)} | {_default(param)} | {_meaning(param)} |" for param in params]
    return "\n".join(lines)


def _names(param: Any) -> str:
    value = f" {param.metavar}" if param.metavar and not getattr(param, "is_flag", False) else ""
    return ", ".join(f"`{name}{value}`" for name in (*param.opts, *param.secondary_opts))


def _default(param: Any) -> str:
    """What the help shows as the default; empty where it shows none."""
    if param.required:
        return "required"
    if isinstance(param.show_default, str):
        return _cell(param.show_default)
    if not param.show_default or param.default in (None, False, ()):
        return ""
    default = param.default.value if isinstance(param.default, Enum) else param.default
    return f"`{_cell(str(default))}`"


def _meaning(param: Any) -> str:
    annotation = param.type_descriptor.annotation
    parts = [param.help or ""]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        parts.append(f"One of {', '.join(f'`{choice.value}`' for choice in annotation)}.")
    if getattr(param, "envvar", None):
        parts.append(f"Environment variable: `{param.envvar}`.")
    return _cell(" ".join(parts))


def _cell(text: str) -> str:
    """One line; a bar would end the cell, and a star alone begin emphasis."""
    return " ".join(text.split()).replace("|", "\\|").replace(" *", " \\*")
