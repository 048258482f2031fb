"""`fengni db verify` names what somebody changed in the database, and believes who proves it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli import NO, OK, run
from service.tamper import Target, tamper
from tests.service.attested_maker import Attested, make_attested
from tests.service.kept_deployment import LOG, Kept, use
from tests.service.truth_maker import differences, told

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def attested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attested]:
    """A deployment whose witness and authority answer during all tests."""
    made = make_attested(tmp_path_factory.mktemp("attested"))
    with made.outside():
        yield made


@pytest.fixture(scope="module")
def original(attested: Attested) -> Kept:
    """The deployment, used and stopped."""
    return use(attested)


@pytest.fixture
def kept(original: Kept, tmp_path: Path) -> Kept:
    """A copy that the test may spoil."""
    return original.copy(tmp_path / "deployment")


def test_a_sound_database_agrees(original: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing differs, and what only the database has is counted."""
    assert differences(original.settings) == []
    assert run(["db", "verify", str(original.settings.folder)]) == OK
    said = capsys.readouterr().out
    assert "Only the database has" in said
    assert "tokens" in said
