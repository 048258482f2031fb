"""Our verifier answers every package vector as expected.json says, and every check has one."""

import io
import json
from typing import Any

import pytest

from evidence.errors import KnownKeysInvalid
from evidence.known_keys import parse_known_keys
from evidence.report import CHECKS, Outcome
from evidence.schema import parse_time
from evidence.verify import verify_package
from tests.tools import ROOT

FOLDER = ROOT / "tests" / "vectors" / "packages"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())
WITHOUT_NEGATIVE = {"custody.trail"}  # it lists; what it lists is judged by the other checks


@pytest.mark.parametrize("name", EXPECTED["vectors"])
def test_a_vector_is_answered_as_expected(name: str) -> None:
    """Exactly the named checks fail or cannot be confirmed."""
    expected = EXPECTED["vectors"][name]
    known = parse_known_keys((FOLDER / expected["known_keys"]).read_bytes())
    package = io.BytesIO((FOLDER / f"{name}.zip").read_bytes())
    report = verify_package(package, known, parse_time(EXPECTED["at"]))
    found = {
        outcome: sorted({check.name for check in report.checks if check.outcome is outcome})
        for outcome in (Outcome.CHANGED, Outcome.UNCONFIRMED)
    }
    assert found == {
        Outcome.CHANGED: expected["content_changed"],
        Outcome.UNCONFIRMED: expected["cannot_confirm"],
    }


@pytest.mark.parametrize("name", EXPECTED["vectors"])
def test_no_check_passes_and_fails(name: str) -> None:
    """A pass says that nothing was found under that name, in any log and for any member."""
    vector = EXPECTED["vectors"][name]
    known = parse_known_keys((FOLDER / vector["known_keys"]).read_bytes())
    package = io.BytesIO((FOLDER / f"{name}.zip").read_bytes())
    checks = verify_package(package, known, parse_time(EXPECTED["at"])).checks
    one_a_capture = {"session.completeness", "time.not_before"}
    passed = {check.name for check in checks if check.outcome is Outcome.PASS} - one_a_capture
    failed = {check.name for check in checks if check.verdict is not Outcome.PASS}
    assert passed & failed == set()


@pytest.mark.parametrize("name", EXPECTED["refused_known_keys"])
def test_a_wrong_trust_file_is_refused(name: str) -> None:
    """Known keys that their own root keys did not sign are no known keys."""
    with pytest.raises(KnownKeysInvalid):
        parse_known_keys((FOLDER / name).read_bytes())


def test_every_check_has_a_negative_vector() -> None:
    """A check that no vector can fail would prove nothing."""
    failing = {
        name
        for vector in EXPECTED["vectors"].values()
        for name in (*vector["content_changed"], *vector["cannot_confirm"])
    }
    assert set(CHECKS) - WITHOUT_NEGATIVE == failing
