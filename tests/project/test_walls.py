"""The walls of the house: which room may import which, and which libraries stay outside."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ptqdb"
MOST_FILES_AT_THE_ROOT = 8
# What every room may use.
COMMON = {"errors", "defaults", "resources", "version", "support"}
# Each room and those beneath it that it may import from, besides the common ones.
ROOMS = {
    "support": set(),
    "curves": set(),
    "datasets": set(),
    "networks": {"datasets"},
    "quantization": {"networks"},
    "measurement": {"datasets", "networks", "quantization"},
    "database": set(),
    "collection": {"datasets", "networks", "quantization", "measurement", "database"},
    "fitting": {"curves", "database"},
    "charts": {"curves", "database", "fitting"},
    "report": {"curves", "database", "fitting", "charts"},
    "study": {
        *("datasets", "networks", "quantization", "measurement", "collection"),
        *("database", "curves", "fitting", "charts", "report"),
    },
}
# Libraries that a room does without, whatever it imports.
WITHOUT = {
    "measurement": {"duckdb"},
    "fitting": {"torch"},
    "curves": {"torch", "duckdb"},
    "quantization": {"polars", "duckdb"},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str, *, lazily: bool) -> Iterator[str]:
    """The modules that a module imports when it runs, not those that only name types.

    Parameters
    ----------
    lazily
        Whether those count, too, that a function imports when it is called.
    """

    def walk(node: ast.AST) -> Iterator[str]:
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return
            case ast.FunctionDef() if not lazily:
                return
            case ast.Import(names=names):
                yield from (one.name for one in names)
            case ast.ImportFrom(module=str(origin), names=names):
                for one in names:
                    whole = f"{origin}.{one.name}"
                    yield whole if whole in MODULES else origin
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    yield from walk(ast.parse(MODULES[module].read_text("utf-8")))


def room(module: str) -> str:
    """The first part after the package's name; of the package itself, nothing."""
    return ".".join(module.split(".")[1:2])


def needed(module: str) -> set[str]:
    """All that is imported once a module is, and the packages that its imports lie in."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        parents = [".".join(name.split(".")[:end]) for end in range(1, name.count(".") + 2)]
        for one in parents:
            if one not in found:
                found.add(one)
                if one in MODULES:
                    waiting += imports(one, lazily=False)
    return found


def test_few_files_stand_at_the_root() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_FILES_AT_THE_ROOT


def test_every_room_is_known() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == {*ROOMS, "cli"} - {"study"}


@pytest.mark.parametrize("name", ROOMS)
def test_no_import_runs_back_up(name: str) -> None:
    allowed = COMMON | ROOMS[name] | {name}
    wrong = [
        f"{module} imports {other}"
        for module in MODULES
        if room(module) == name
        for other in imports(module, lazily=True)
        if other.split(".")[0] == "ptqdb" and room(other) not in allowed
    ]
    assert wrong == []


def test_what_everybody_may_use_needs_no_room() -> None:
    wrong = [
        (name, other)
        for name in sorted(COMMON - {"support"})
        for other in imports(f"ptqdb.{name}", lazily=True)
        if other.split(".")[0] == "ptqdb" and room(other) not in COMMON
    ]
    assert wrong == []


def test_there_is_no_circle() -> None:
    """Not even through imports that wait until a function is called."""
    below = {
        module: {other for other in imports(module, lazily=True) if other in MODULES}
        for module in MODULES
    }
    done: set[str] = set()
    while True:
        free = {module for module in below if module not in done and below[module] <= done}
        if not free:
            break
        done |= free
    assert sorted(below.keys() - done) == []


@pytest.mark.parametrize("name", WITHOUT)
def test_libraries_stay_outside(name: str) -> None:
    wrong = [
        f"{module} needs {library}"
        for module in MODULES
        if room(module) == name
        for library in WITHOUT[name]
        if library in needed(module)
    ]
    assert wrong == []


def test_nothing_below_the_command_line_knows_it() -> None:
    wrong = [
        module
        for module in MODULES
        if room(module) not in ("cli", "__main__")
        for other in imports(module, lazily=True)
        if other.split(".")[0] == "typer" or other.startswith("ptqdb.cli")
    ]
    assert wrong == []
