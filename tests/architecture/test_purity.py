"""`evidence` stays pure: it imports only what stands here and opens nothing.

import-linter's contracts deny what is known to be wrong; a deny-list leaks, so this is the
allow-list beside it.
"""

import ast
from pathlib import Path

import grimp
import pytest

from tests.tools import ROOT

LANGUAGE = frozenset(
    {
        "__future__",
        "abc",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "contextlib",
        "dataclasses",
        "datetime",
        "enum",
        "fractions",
        "functools",
        "hashlib",
        "hmac",
        "io",
        "itertools",
        "json",
        "math",
        "re",
        "struct",
        "types",
        "typing",
        "unicodedata",
        "zipfile",
        "zlib",
    }
)
"""Modules of the standard library that compute and do nothing else; `io` for streams in memory."""

LIBRARIES = frozenset({"cryptography", "rfc3161_client", "rfc8785"})
"""The base install: what somebody who verifies has to trust."""

MEDIA = frozenset({"cv2", "numpy", "exifread", "defusedxml", "c2pa"})
"""What the extra `media` adds, for `evidence.media` alone."""

SHELL = "evidence.__main__"
BANNED_CALLS = frozenset({"open", "print", "input", "eval", "exec", "compile", "__import__"})

GRAPH = grimp.build_graph("evidence", include_external_packages=True, cache_dir=None)
MODULES = sorted(
    module for module in GRAPH.modules if module.split(".")[0] == "evidence" and module != SHELL
)


def allowed_for(module: str) -> frozenset[str]:
    """What a module of `evidence` may import from outside."""
    inside_media = module.split(".")[:2] == ["evidence", "media"]
    return LANGUAGE | LIBRARIES | (MEDIA if inside_media else frozenset())


def source_of(module: str) -> Path:
    """The file of a module."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def called_names(source: str) -> set[str]:
    """The plain names that a source calls."""
    return {
        node.func.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


@pytest.mark.parametrize("module", MODULES)
def test_imports_stand_on_the_allow_list(module: str) -> None:
    """A module of evidence imports nothing that could open, remember or ask for the time."""
    outside = {name.split(".")[0] for name in GRAPH.find_modules_directly_imported_by(module)}
    assert outside - {"evidence"} - allowed_for(module) == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_builtin_reaches_outside(module: str) -> None:
    """A module of evidence calls no builtin that opens, prints or runs text."""
    assert called_names(source_of(module).read_text("utf-8")) & BANNED_CALLS == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_clock_is_asked(module: str) -> None:
    """A module of evidence never asks for the present time; it is handed `at`."""
    tree = ast.parse(source_of(module).read_text("utf-8"))
    asked = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert asked & {"now", "utcnow", "today"} == set()


def test_the_base_install_is_the_verifier_alone() -> None:
    """Nothing that `python -m evidence` loads needs an extra."""
    reached = {SHELL} | GRAPH.find_upstream_modules(SHELL)
    assert {name.split(".")[0] for name in reached} & MEDIA == set()
    assert [name for name in reached if name.startswith("evidence.media")] == []
