"""What lies in the repository: only what the layout names, and nothing of anybody's machine."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from service.app import VERSION
from tests.tools import ROOT, require_tool

TOP_LEVEL = frozenset(
    {
        "service",
        "evidence",
        "storage",
        "tests",
        "deploy",
        "docs",
        "pyproject.toml",
        "README.md",
        "Makefile",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "LICENSE",
        "requirements.lock",
        "requirements-verifier.lock",
    }
)
EXTRACTS = ("requirements-verifier.lock", "deploy/requirements-server.lock")
LOCKS = re.compile(r"(\.lock|lock\.json|requirements.*\.txt|\.npmrc)$")
LARGEST_BYTES = 2_000_000
PACKAGE_HOSTS = re.compile(r"https?://[\w.-]*(pypi|pythonhosted|npmjs|registry\.)[\w./-]*")
MACHINE_PATHS = re.compile(r"(?:^|[\s\"'`(=:])/(?:home|Users|root)/\w", re.MULTILINE)
UNFINISHED = re.compile(r"raise NotImplementedError\(|\b(TODO|FIXME|XXX|HACK)\b")


def tracked() -> list[Path]:
    """The files that git knows, as paths inside the repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of tracked files")
    command = [str(require_tool("git")), "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    """A tracked file's text; empty for one that is no text."""
    try:
        return (ROOT / path).read_text("utf-8")
    except UnicodeDecodeError:
        return ""


def test_the_top_level_is_the_layout() -> None:
    """Nothing stands at the top level but what the layout names, and dotfiles."""
    tops = {path.parts[0] for path in tracked()}
    assert {top for top in tops if not top.startswith(".")} - TOP_LEVEL == set()


def test_lock_files_name_no_host() -> None:
    """A lock file pins versions and hashes; where they come from is the user's to say."""
    locks = [path for path in tracked() if LOCKS.search(path.name)]
    assert {path.name for path in locks} >= {"requirements.lock", "package-lock.json"}
    assert [path for path in locks if "://" in text_of(path)] == []


def test_every_pin_has_a_hash() -> None:
    """Every line of a lock file that pins a version is followed by hashes."""
    for name in (
        "requirements.lock",
        "requirements-verifier.lock",
        "deploy/requirements-server.lock",
    ):
        lines = (ROOT / name).read_text("utf-8").splitlines()
        pins = [number for number, line in enumerate(lines) if "==" in line]
        bare = [lines[n] for n in pins if "--hash=sha256:" not in "".join(lines[n + 1 : n + 2])]
        assert bare == []
        assert pins


def pins_of(lock: str) -> set[str]:
    """The lines `name==version` of a lock file."""
    return set(re.findall(r"^[\w.-]+==[\w.]+", (ROOT / lock).read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("lock", EXTRACTS)
def test_the_lock_files_agree(lock: str) -> None:
    """What the verifier and a server install is what the tests ran with."""
    assert pins_of(lock) - pins_of("requirements.lock") == set()
    assert pins_of(lock)


def test_the_verifier_needs_little() -> None:
    """The base install has three direct dependencies and at most five packages in all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[><=!~ ]", line)[0] for line in project["dependencies"]}
    assert names == {"cryptography", "rfc3161-client", "rfc8785"}
    pins = re.findall(
        r"^[\w.-]+==", (ROOT / "requirements-verifier.lock").read_text(), re.MULTILINE
    )
    assert len(pins) <= 5  # the three, cffi and pycparser


def test_there_is_one_version() -> None:
    """The service names the version that is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == VERSION


def test_nothing_of_a_machine_is_left_behind() -> None:
    """No tracked text names a home folder, a package index or a file of somebody's machine."""
    found = [
        f"{path}: {hit.group(0).strip()}"
        for path in tracked()
        for pattern in (MACHINE_PATHS, PACKAGE_HOSTS)
        if (hit := pattern.search(text_of(path)))
    ]
    assert found == []


def test_no_large_file_is_tracked() -> None:
    """Test material that is large is made by the tests or lies outside the repository."""
    sizes = {path: (ROOT / path).stat().st_size for path in tracked()}
    assert [path for path, size in sizes.items() if size > LARGEST_BYTES] == []


def test_nothing_is_left_unfinished() -> None:
    """The packages hold no stub and no note to oneself."""
    found = [
        f"{path}: {hit.group(0)}"
        for path in tracked()
        if path.parts[0] in {"evidence", "storage", "service"} and path.suffix == ".py"
        if (hit := UNFINISHED.search(text_of(path)))
    ]
    assert found == []


def passes_over(handler: ast.ExceptHandler) -> bool:
    """Whether a handler takes every exception, and neither raises nor hands on what it caught."""
    kinds = handler.type
    names = {n.id for n in ast.walk(kinds) if isinstance(n, ast.Name)} if kinds else {"Exception"}
    inner = [node for statement in handler.body for node in ast.walk(statement)]
    raises = any(isinstance(node, ast.Raise) for node in inner)
    hands_on = any(isinstance(node, ast.Name) and node.id == handler.name for node in inner)
    return bool(names & {"Exception", "BaseException"}) and not (raises or hands_on)


def test_no_handler_passes_over_everything() -> None:
    """`except Exception` raises again or hands the error to whoever waits for the answer."""
    found = [
        f"{path}:{node.lineno}"
        for path in tracked()
        if path.parts[0] in {"evidence", "storage", "service"} and path.suffix == ".py"
        for node in ast.walk(ast.parse(text_of(path)))
        if isinstance(node, ast.ExceptHandler) and passes_over(node)
    ]
    assert found == []


def test_every_long_silent_step_is_announced() -> None:
    """Before a step of the Makefile that installs packages a line says so."""
    lines = (ROOT / "Makefile").read_text("utf-8").splitlines()
    steps = [n for n, line in enumerate(lines) if re.search(r"^\t.*(pip install|npm ci) ", line)]
    told = {n for n, line in enumerate(lines) if line.startswith('\t@echo "Installing ')}
    silent = [n for n in steps if not {n - 1, n - 2} & told]
    assert [lines[n] for n in silent] == []
    assert len(steps) >= 6


def test_the_readme_names_the_two_commands() -> None:
    """The README leads with `make run` and `make test`, and `.ci/run` calls the second."""
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "make run" in readme
    assert "make test" in readme
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    code = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert code == ["exec make test"]
