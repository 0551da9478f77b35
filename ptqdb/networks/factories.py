"""A user's own network, built by a callable without arguments in a module or file."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from ptqdb.errors import DataError, UsageError
from ptqdb.networks.builder import Unpublished
from ptqdb.networks.copies import full_copy
from ptqdb.networks.specs import check_callable, names_file, ways
from ptqdb.support.closest import closest_first


@dataclass(frozen=True)
class Factory(Unpublished):
    """A user's callable, not yet called.

    Attributes
    ----------
    spec
        ``package.module:callable`` or ``path/file.py:callable``.
    function
        Takes no arguments and returns an ``nn.Module``; or is such a module.
    """

    spec: str
    function: Callable[[], Any]

    @property
    def name(self) -> str:
        """The name of the callable."""
        return self.spec.rpartition(":")[2]

    def build(self, class_count: int | None = None) -> nn.Module:
        """Return the network that the callable builds.

        Raises
        ------
        UsageError
            A class count is given: the callable takes no arguments.
        DataError
            The callable fails (the one-line message gives file and line), or it does not return an
            ``nn.Module``.
        """
        if class_count is not None:
            raise UsageError(
                f"--class-count: {self.spec} is called without arguments; leave the count out, and "
                f"let the code build {class_count} classes"
            )
        if isinstance(self.function, nn.Module):
            return full_copy(self.function)
        with _in_one_line(self.spec):
            module = self.function()
        if not isinstance(module, nn.Module):
            raise DataError(
                f"expected {self.spec} to return an nn.Module, found a {type(module).__name__}"
            )
        lazy = [name for name, parameter in module.named_parameters() if is_lazy(parameter)]
        if lazy:
            raise DataError(
                f"expected {self.spec} to return a network with initialized weights, found a lazy "
                f"{lazy[0]}; run it once on an example"
            )
        return module


def find_factory(spec: str) -> Factory:
    """Import the module of a spec and return its callable, without calling it.

    Raises
    ------
    UsageError
        No such file, module or callable, or one that needs arguments.
    DataError
        Importing the module fails; the message gives file and line.
    """
    function = find_callable(spec)
    if not isinstance(function, nn.Module):
        _refuse_arguments(spec, function)
    return Factory(spec, function)


def find_callable(spec: str, option: str = "--network") -> Any:
    """Import the module of a spec and return what it names there.

    Parameters
    ----------
    option
        What messages name.

    Raises
    ------
    UsageError
        No such file, module or name.
    DataError
        Importing the module fails; the message gives file and line.
    """
    where, _, name = spec.rpartition(":")
    check_callable(spec, option)
    is_file = names_file(where)
    module = _file_module(spec, Path(where)) if is_file else _named_module(spec, where, option)
    if not hasattr(module, name):
        own = [key for key, value in vars(module).items() if _is_own(module, value)]
        found = (
            f"it has {', '.join(closest_first(name, own)[:5])}" if own else "it defines no callable"
        )
        raise UsageError(f"no callable {name!r} in {where}; {found}")
    return getattr(module, name)


def _is_own(module: ModuleType, value: Any) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__


def _refuse_arguments(spec: str, function: Any) -> None:
    if not callable(function):
        raise UsageError(f"expected {spec} to be callable, found a {type(function).__name__}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-ins have no signature
        return
    try:
        signature.bind()
    except TypeError as error:
        raise UsageError(
            f"expected {spec} to take no arguments, found {signature}; write a function without "
            "arguments that calls it"
        ) from error


def _named_module(spec: str, name: str, option: str) -> ModuleType:
    """Import a module from the path, including the working folder."""
    try:
        with _in_one_line(spec), _importable(Path.cwd()):
            return importlib.import_module(name)
    except DataError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and _is_part(missing.name, name):
            raise UsageError(
                f"{option}: no module named {missing.name!r} for {spec!r}; expected {ways(option)}"
            ) from error
        raise


def _is_part(missing: str | None, name: str) -> bool:
    """Whether the missing module is this one or its parent package."""
    return missing is not None and f"{name}.".startswith(f"{missing}.")


def _file_module(spec: str, path: Path) -> ModuleType:
    """Import a file under a private name, then forget the neighbouring modules it imported."""
    path = path.resolve()
    name = f"_ptqdb_network_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise UsageError(f"--network: expected a Python file, found {path}; name it .py")
    module = importlib.util.module_from_spec(found)
    before = set(sys.modules)
    sys.modules[name] = module
    try:
        with _in_one_line(spec), _importable(path.parent):
            found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        _forget_neighbours(before | {name}, path.parent)
    return module


def _forget_neighbours(before: set[str], folder: Path) -> None:
    """Unload modules imported from the folder, so other files' ``layers.py`` are not confused."""
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if not file or name.partition(".")[0] in before or "site-packages" in Path(file).parts:
            continue
        if Path(file).resolve().is_relative_to(folder):
            del sys.modules[name]


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Make modules of the folder importable inside the block."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):  # the code may have changed sys.path
            sys.path.remove(str(folder))


@contextmanager
def _in_one_line(spec: str) -> Iterator[None]:
    """Turn any error of the user's code into a one-line message with file and line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        what = " ".join(str(error).split()) or "no message"
        raise DataError(
            f"the code of {spec} failed: {type(error).__name__}: {what} ({_place(error)})"
        ) from error


def _place(error: BaseException) -> str:
    """The file and line that the user can fix: the innermost frame outside of libraries."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith("<frozen")
    ]
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    libraries = str(Path(importlib.__file__).parent.parent)
    own = [frame for frame in own if not frame.filename.startswith(libraries)] or own
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else "outside of Python"
