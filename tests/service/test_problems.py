"""Problems: one registry, the form of RFC 9457, and nobody else's words."""

import re

import pytest

from evidence.errors import EvidenceError, FieldInvalid
from service.law.refusals import Refusal
from service.problems import REGISTRY, Problem, occurrence_of
from service.request_faults import pointer_of
from storage.errors import DiskReserveReached, IntegrityAlarm, StorageError


def descendants(kind: type[Exception]) -> list[type[Exception]]:
    """A class with everything below it."""
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in descendants(child))]


@pytest.mark.parametrize("root", [EvidenceError, StorageError, Refusal])
def test_every_error_of_ours_has_a_problem(root: type[Exception]) -> None:
    """No error that may leave a layer lacks its line in the registry."""
    missing = [kind.code for kind in descendants(root) if kind.code not in REGISTRY]  # type: ignore[attr-defined]
    assert missing == []


def test_every_problem_has_two_titles_and_an_error_status() -> None:
    """Each line is complete, and its code is one word."""
    broken = [
        kind.code
        for kind in REGISTRY.values()
        if not re.fullmatch(r"[a-z][a-z0-9_]*", kind.code)
        or not 400 <= kind.status <= 599
        or not kind.title
        or not re.search(r"[\u4e00-\u9fff]", kind.title_zh)
    ]
    assert broken == []


def test_a_fault_with_a_place_points_at_it() -> None:
    """The pointer of an evidence error stands under `errors`."""
    found = occurrence_of(FieldInvalid("The member must be an integer.", pointer="/body/number"))
    assert found.document() == {
        "type": "/problems/field_invalid",
        "code": "field_invalid",
        "status": 422,
        "title": "A member's value is outside its schema",
        "title_zh": "成员取值不符",
        "detail": "The member must be an integer.",
        "errors": [{"pointer": "/body/number", "detail": "The member must be an integer."}],
    }


def test_a_store_s_own_sentence_stays_inside() -> None:
    """What a store tells its operator is not told to a client."""
    found = occurrence_of(IntegrityAlarm("object 9f86 under /srv is not what it says"))
    assert found.document()["detail"] == "What is held is not what its name says."


def test_a_full_disk_is_507() -> None:
    """The reserve has a status of its own."""
    assert occurrence_of(DiskReserveReached("x")).kind.status == 507


def test_a_problem_of_the_edge_keeps_its_parts() -> None:
    """Detail, errors and waiting time survive."""
    problem = Problem(
        "proof_pending", "Not yet.", retry_after_s=2, errors=({"parameter": "min", "detail": "x"},)
    )
    found = occurrence_of(problem)
    assert (found.kind.status, found.retry_after_s, found.errors) == (
        409,
        2,
        ({"parameter": "min", "detail": "x"},),
    )


def test_an_unregistered_code_is_a_mistake_of_ours() -> None:
    """Nothing is answered under a code that nobody documented."""
    with pytest.raises(KeyError):
        occurrence_of(Problem("made_up", "x"))


@pytest.mark.parametrize(
    ("path", "pointer"),
    [("$", ""), ("$.statements[3].key_id", "/statements/3/key_id"), ("$[0]", "/0")],
)
def test_a_path_of_the_decoder_becomes_a_pointer(path: str, pointer: str) -> None:
    """The decoder's own notation is turned into RFC 6901."""
    assert pointer_of(path) == pointer
