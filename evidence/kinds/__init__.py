"""Every kind of statement: who signs it, what it may say, one literal example.

Does: holds the closed registry of kinds. Refuses nothing itself; `evidence.statement`
checks a body against the kind's schema. A new kind is a new file here, a line in the
registry and a passage in docs/evidence-format.md; a change to an existing one is a new
major version.
"""

from collections.abc import Mapping
from types import MappingProxyType

from evidence.kinds import (
    adopt,
    advice,
    capture,
    check,
    correction,
    custody,
    decision,
    detection,
    disposed,
    document,
    inspected,
    key,
    policy,
    present,
    review,
    session,
    stored,
    submission,
    succession,
    transition,
)
from evidence.kinds.members import Kind

ALL: tuple[Kind, ...] = (
    key.KIND,
    policy.KIND,
    session.KIND,
    capture.KIND,
    detection.KIND,
    present.KIND,
    adopt.KIND,
    stored.KIND,
    inspected.KIND,
    custody.KIND,
    check.KIND,
    review.KIND,
    advice.KIND,
    transition.KIND,
    decision.KIND,
    document.KIND,
    submission.KIND,
    correction.KIND,
    disposed.KIND,
    succession.KIND,
)
KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in ALL})
