"""The documentation cannot fall behind: the reference is what the registries say, and complete."""

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from evidence.errors import EvidenceError
from evidence.kinds import ALL
from evidence.report import CHECKS, RUNGS
from service.law.refusals import Refusal
from service.problems import REGISTRY
from storage.errors import StorageError
from tests.tools import ROOT

DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def load_generator() -> ModuleType:
    """The script that writes the reference pages."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "reference" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()


def markdown() -> list[Path]:
    """Every page of the repository that is ours."""
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])


@pytest.mark.parametrize("name", sorted(GENERATOR.PAGES))
def test_a_reference_page_is_what_the_registry_says(name: str) -> None:
    """Each reference page is the one that `make docs` would write now."""
    written = (DOCS / "reference" / name).read_text("utf-8")
    assert written == GENERATOR.HEAD + GENERATOR.PAGES[name]()


def test_every_reference_page_is_generated_or_written_by_hand_on_purpose() -> None:
    """No page is left over from a registry that is gone."""
    pages = {path.name for path in (DOCS / "reference").glob("*.md")}
    by_hand = {"index.md"}
    assert pages - by_hand == set(GENERATOR.PAGES)


def test_every_kind_is_in_the_format() -> None:
    """Every statement kind is described, with its type, where the format is."""
    text = (DOCS / "reference" / "statements.md").read_text("utf-8")
    assert [kind.type for kind in ALL if f"`{kind.type}`" not in text] == []


def test_checks_and_rungs_stand_in_the_order_of_the_procedure() -> None:
    """The report lists them as the format's page asks them, under the same names."""
    page = (DOCS / "evidence-format.md").read_text("utf-8")
    procedure, ladder = page.split("\n## 10. ")[1].split("\n## 11. ")
    for text, form, names in ((procedure, "`{}`", tuple(CHECKS)), (ladder, "\n| `{}` |", RUNGS)):
        places = [text.index(form.format(name)) for name in names]
        assert places == sorted(places)


@pytest.mark.parametrize("root", [EvidenceError, StorageError, Refusal])
def test_every_error_has_a_code_of_its_own_and_a_problem(root: type[Exception]) -> None:
    """No two classes share a code, and every code has a line in the registry of problems."""
    classes = GENERATOR.descendants(root)
    codes = [one.code for one in classes]
    assert sorted(codes) == sorted(set(codes))
    assert [code for code in codes if code not in REGISTRY] == []


def test_every_command_and_option_is_described() -> None:
    """The command line says of every command, argument and option what it is for."""
    silent = [
        f"{path} {one.name}"
        for path, command in GENERATOR.commands()
        for one in [command, *command.params]
        if not one.help
    ]
    assert silent == []


def test_every_route_and_parameter_is_described() -> None:
    """The API says of every route what it is for, and of every parameter what it means."""
    silent = [
        f"{method} {path} {parameter['name']}"
        for path, operations in GENERATOR.describe(GENERATOR.application())["paths"].items()
        for method, operation in operations.items()
        for parameter in [*operation.get("parameters", []), {"name": "", **operation}]
        if not (parameter.get("description") or parameter.get("summary"))
    ]
    assert silent == []


@pytest.mark.parametrize("path", markdown(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    """Every relative link of a page leads to a file that is there."""
    links = [link for link in LINK.findall(path.read_text("utf-8")) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_pages_count_the_libraries_of_the_verifier_alike() -> None:
    """Whoever counts what he installed finds as many as the pages and the package itself say."""
    lock = (ROOT / "requirements-verifier.lock").read_text("utf-8")
    count = {5: "five"}.get(len(re.findall(r"^[a-z0-9-]+==", lock, re.MULTILINE)))
    pages = (
        "evidence/packing.py",
        "docs/how-to/verify-a-package.md",
        DOCS / "explanation" / "architecture.md",
    )
    said = [re.findall(r"(\w+)\s+libraries", (ROOT / page).read_text("utf-8")) for page in pages]
    assert said == [[count]] * len(pages)


def test_the_tutorial_s_flip_runs_as_it_is_copied(tmp_path: Path) -> None:
    """The lines of Python in the tutorial, with their indentation, flip one bit in the middle."""
    page = (DOCS / "tutorial.md").read_text("utf-8")
    begin, end = page.index("    python3 -c"), page.index("    .venv/bin/fengni verify flipped")
    (tmp_path / "evidence.zip").write_bytes(bytes(9))
    subprocess.run(["bash", "-ec", page[begin:end]], cwd=tmp_path, check=True, timeout=30)
    assert (tmp_path / "flipped.zip").read_bytes() == bytes(4) + b"\x01" + bytes(4)


def test_every_page_is_reached_from_the_index() -> None:
    """A reader who starts at docs/index.md or the README can reach every page."""
    reached: set[Path] = set()
    waiting = [DOCS / "index.md", ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        links = LINK.findall(page.read_text("utf-8"))
        waiting += [page.parent / link for link in links if "://" not in link]
    fragments = DOCS / "changes"
    lost = [
        p for p in DOCS.rglob("*.md") if p.resolve() not in reached and fragments not in p.parents
    ]
    assert [path.relative_to(ROOT).as_posix() for path in lost] == []
