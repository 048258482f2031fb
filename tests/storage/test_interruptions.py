"""Every system call of the stores may be the last one, or refused: nothing is half there after."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from storage.errors import StorageError
from tests.storage.scenarios import MOST_STEPS, SCENARIOS, check, check_done, prepare
from tests.storage.steps import fail_at, watched
from tests.tools import ROOT

WITH_AND_WITHOUT = pytest.mark.parametrize("unnamed_files", [True, False], ids=["unnamed", "named"])
EVERY_SCENARIO = pytest.mark.parametrize("scenario", SCENARIOS)


@EVERY_SCENARIO
@WITH_AND_WITHOUT
def test_a_kill_before_any_step_leaves_nothing_half_done(
    tmp_path: Path, scenario: str, unnamed_files: bool
) -> None:
    """A process killed before step k leaves a sound store, and a repeat does the whole work."""
    files = "unnamed" if unnamed_files else "named"
    command = [sys.executable, "-m", "tests.storage.scenarios", scenario, str(tmp_path), files]
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert int(ended.stdout) > 5


@EVERY_SCENARIO
@pytest.mark.parametrize(
    ("unnamed_files", "code"),
    [(True, errno.EIO), (False, errno.EIO), (True, errno.ENOSPC)],
    ids=["unnamed-EIO", "named-EIO", "unnamed-ENOSPC"],
)
def test_a_refusal_at_any_step_is_an_error_of_ours_and_harmless(
    tmp_path: Path, scenario: str, unnamed_files: bool, code: int
) -> None:
    """A disk that refuses step k makes a `StorageError`, and after a restart a repeat succeeds."""
    refused = 0
    for step in range(MOST_STEPS):
        folder = tmp_path / str(step)
        prepare(scenario, folder)
        with watched(fail_at(step, code), unnamed_files=unnamed_files) as steps:
            try:
                SCENARIOS[scenario](folder)
            except StorageError:
                refused += 1
        check(scenario, folder)
        SCENARIOS[scenario](folder)
        check_done(scenario, folder)
        if len(steps) <= step:
            break
    assert 5 < refused < MOST_STEPS
