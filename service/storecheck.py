"""The self-test of the object store, stated in every organ's log before content is taken.

Does: makes one `check` statement of a verdict and waits until it is logged. Refuses to let an organ
begin quietly on a store that failed: that is stated first.
"""

from typing import TYPE_CHECKING

from service.context import Context, Organ
from service.logs import get_logger
from storage.objects.selftest import Verdict

if TYPE_CHECKING:
    from evidence.canonical import JSONObject

PREFIX = "objects_"
"""Codes of the self-test begin with it in a `check` statement."""

_log = get_logger("storecheck")


def state_verdict(context: Context, organ: Organ) -> None:
    """State the verdict on the object store in an organ's log, before it takes content.

    An organ whose server key is not enrolled yet cannot state anything; that is logged.

    Raises:
        StorageError: the log takes nothing.
    """
    verdict = context.verdict
    if verdict is None:
        return
    body = check_body(verdict, refuse=context.settings.objects_unproven == "refuse")
    for one in verdict.failed:
        _log.error("store_unproven", organ=organ.id, code=one.code)
    _state(organ, body)


def check_body(verdict: Verdict, *, refuse: bool) -> "JSONObject":
    """What the `check` statement says.

    Args:
        verdict: of the self-test.
        refuse: whether a failure keeps the server from starting; else its level is lower.
    """
    failed = "fail" if refuse else "degraded"
    return {
        "check": "doctor",
        "outcome": "pass" if verdict.passed else failed,
        "results": [
            {"code": PREFIX + one.code, "outcome": one.outcome} for one in verdict.findings
        ],
    }


def _state(organ: Organ, body: "JSONObject") -> None:
    made = organ.admission.make("check", body)
    [outcome] = organ.admission.submit_own([made]).result()
    if isinstance(outcome, Exception):
        _log.error("store_check_unstated", organ=organ.id, exc_info=outcome)
