"""The Typer app class of all commands, and the options that control what they print."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ptqdb.cli.groups import spread
from ptqdb.cli.output import OutputFormat, Printing, set_printing

_QUIET = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print only results and errors: no progress, no remarks."),
]
_COLUMNS = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Print only these columns, in this order."),
]
_WIDE = Annotated[
    bool, typer.Option("--wide", help="Print full tables, even wider than the terminal.")
]


class App(typer.Typer):
    """A Typer app whose commands also take --quiet and, if they print tables, more."""

    def command(  # type: ignore[override]
        self, *names: Any, **options: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a command like ``typer.Typer.command``, with option groups expanded."""
        register = super().command(*names, cls=_Command, **options)

        def registered(function: Callable[..., Any]) -> Callable[..., Any]:
            register(_with_printing(spread(function)))
            return function

        return registered


class _Command(typer.core.TyperCommand):
    """A command whose help shows no type for flags, which take no value."""

    def get_params(self, ctx: Any) -> Any:
        params = super().get_params(ctx)
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


def _with_printing(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the options of `Printing` appended to its own."""
    signature = inspect.signature(function)
    prints_tables = any(
        isinstance(parameter.default, OutputFormat) for parameter in signature.parameters.values()
    )
    added: dict[str, tuple[Any, Any]] = {}
    if prints_tables:
        added |= {"columns": (_COLUMNS, None), "wide": (_WIDE, False)}
    added["quiet"] = (_QUIET, False)

    @functools.wraps(function)
    def call(
        *arguments: Any,
        columns: str | None = None,
        wide: bool = False,
        quiet: bool = False,
        **said: Any,
    ) -> Any:
        names = tuple(name.strip() for name in (columns or "").split(",") if name.strip())
        with set_printing(Printing(is_quiet=quiet, columns=names, is_wide=wide)):
            return function(*arguments, **said)

    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in added.items()
    ]
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *parameters]
    )
    call.__annotations__ = function.__annotations__ | {
        name: kind for name, (kind, _) in added.items()
    }
    return call
