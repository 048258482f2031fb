"""The runbook names only what there is: commands with their options, and its headings."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from service.cli import app
from tests.tools import ROOT

PAGES = ("docs/how-to/runbook.md", "deploy/README.md")
COMMAND = re.compile(r"`(fengni [^`]+)`|^ {4,}(fengni .+(?:\\\n.+)*)", re.MULTILINE)


def commands(page: str) -> Iterator[str]:
    """Every command that a page shows, on one line."""
    for inline, block in COMMAND.findall((ROOT / page).read_text("utf-8")):
        yield " ".join((inline or block).replace("\\\n", " ").split())


def problem(command: str) -> str | None:
    """What of a command the program does not know; None if it knows all."""
    words = command.split()[1:]
    found: Any = get_command(app)
    path: list[str] = []
    while words and hasattr(found, "commands"):
        word = words.pop(0)
        if word not in found.commands:
            return f"there is no command {' '.join([*path, word])}"
        path.append(word)
        found = found.commands[word]
    known = {option for one in found.params for option in [*one.opts, *one.secondary_opts]}
    options = [word for word in words if word.startswith("-")]
    unknown = [one for one in options if one not in known]
    return f"{' '.join(path)} has no {unknown[0]}" if unknown else None


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_exists(page: str) -> None:
    """Command and options are those of the program."""
    shown = list(commands(page))
    worker = "worker" in get_command(app).commands  # type: ignore[attr-defined]
    tried = [one for one in shown if worker or one.split()[1:2] != ["worker"]]
    assert [f"{one}: {told}" for one in tried if (told := problem(one))] == []
    assert len(tried) > 4


def test_a_wrong_command_would_be_found() -> None:
    """The check can fail: by command, by sub-command, by option."""
    assert problem("fengni examine FOLDER") == "there is no command examine"
    assert problem("fengni log mend FOLDER") == "there is no command log mend"
    assert problem("fengni log fsck FOLDER --mend") == "log fsck has no --mend"
    assert problem("fengni log fsck FOLDER --json") is None


def test_every_incident_of_the_issue_has_its_heading() -> None:
    """Ceremony, rotation, backup, update, and each incident."""
    page = (ROOT / "docs/how-to/runbook.md").read_text("utf-8")
    for heading in (
        *("Key ceremony", "Rotation", "Backup and restore", "Update without a stop"),
        *("A key is stolen", "A witness disagrees", "An object fails its hash"),
        *("A store or a database is down", "The database is lost", "The leader flaps"),
    ):
        assert f"\n## {heading}\n" in page
