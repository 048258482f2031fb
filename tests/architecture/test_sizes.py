"""Files and functions keep to the budgets of the house: a stranger can read each in one go."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TypeAlias

import pytest

from tests.tools import ROOT

PACKAGES = ("evidence", "storage", "service")
FILE_LINES = 400
LONG_FILE_LINES = 600
LONG_FILES = frozenset({"tables.py"})
SHORTEST_FILE_LINES = 20
SHORT_FILES = frozenset({"__init__.py", "__main__.py"})
FUNCTION_LINES = 60
FUNCTION_EXCEPTIONS = {"verify_package": 80}
MEDIAN_FUNCTION_LINES = 12
REFUSED_NAMES = frozenset({"utils", "helpers", "common", "base", "manager", "misc", "shared"})

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    """Every source of the three packages but the migrations, which are generated and frozen."""
    return sorted(
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "migrations" not in path.parts
    )


SOURCES = sources()
NAMES = [path.relative_to(ROOT).as_posix() for path in SOURCES]


def functions(path: Path) -> Iterator[Function]:
    """Every function and method of a source."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: Function) -> int:
    """Lines of a function, its docstring not counted (budgets are for code)."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is None:
        return lines
    return lines - ((first.end_lineno or first.lineno) - first.lineno + 1)


def span(function: Function) -> int:
    """Lines of a function from `def` to its end, docstring included."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_a_file_is_read_in_one_go(path: Path) -> None:
    """No file is longer than its budget, and none is a splinter."""
    lines = path.read_text("utf-8").count("\n")
    assert lines <= (LONG_FILE_LINES if path.name in LONG_FILES else FILE_LINES)
    assert lines >= SHORTEST_FILE_LINES or path.name in SHORT_FILES


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_a_function_fits_a_screen(path: Path) -> None:
    """No function is longer than 60 lines (`verify_package`: 80)."""
    over = {
        function.name: span(function)
        for function in functions(path)
        if span(function) > FUNCTION_EXCEPTIONS.get(function.name, FUNCTION_LINES)
    }
    assert over == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_median_function_is_short(package: str) -> None:
    """Half of a package's functions have at most 12 lines of code."""
    lengths = [
        length(function)
        for path in SOURCES
        if path.is_relative_to(ROOT / package)
        for function in functions(path)
    ]
    assert median(lengths) <= MEDIAN_FUNCTION_LINES


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_names_say_what_a_file_is_for(path: Path) -> None:
    """No file or folder is a drawer for everything."""
    inside = path.relative_to(ROOT).with_suffix("")
    assert REFUSED_NAMES & set(inside.parts) == set()


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    """Every module opens with a docstring, and every public function has one."""
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree)
    silent = [
        function.name
        for function in functions(path)
        if not function.name.startswith("_")
        and span(function) > 6  # shorter ones say it themselves
        and ast.get_docstring(function) is None
    ]
    assert silent == []
