"""Where the tests find the tools that they call.

A tool that is missing is a reason to skip on a user's machine and a failure when ``CI`` is set: a
judge that is never asked proves nothing. This module looks tools up; it installs none
(``tests/system_tools.sh`` and ``make tools`` do).
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
JUDGES_BIN = ROOT / ".venv-judges" / "bin"
VERIFIER_PYTHON = ROOT / ".venv-verifier" / "bin" / "python"
VENV_BIN = ROOT / ".venv" / "bin"
NODE_MODULES = ROOT / "tests" / "judges" / "node" / "node_modules"
GO_CACHE = JUDGES_BIN.parent / "go-cache"
"""Of all Go programs: each alone would compile Go's own library again."""
GO_SOURCES = Path("/usr/share/gocode/src")


def missing(what: str) -> NoReturn:
    """Skip the running test because ``what`` is missing, or fail it when ``CI`` is set."""
    reason = f"{what} is missing; `make tools` installs it where it may"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require_tool(name: str) -> Path:
    """Return the path of a command: the judges' environment first, then ours, then PATH."""
    path = os.pathsep.join((str(JUDGES_BIN), str(VENV_BIN), os.environ.get("PATH", os.defpath)))
    found = shutil.which(name, path=path)
    return Path(found) if found else missing(name)


def require_path(path: Path, what: str) -> Path:
    """Return ``path`` when it exists; ``what`` names it to a person when it does not."""
    return path if path.exists() else missing(what)


def require_node_modules() -> Path:
    """Return the folder of the Node judges (the Sigstore verifier)."""
    return require_path(NODE_MODULES / "@sigstore" / "verify", "@sigstore/verify").parents[1]


def require_go_mod_sources() -> Path:
    """Return the GOPATH folder with Debian's golang.org/x/mod (``sumdb/note``, ``sumdb/tlog``)."""
    require_path(GO_SOURCES / "golang.org" / "x" / "mod" / "sumdb", "golang-golang-x-mod-dev")
    return GO_SOURCES.parent
