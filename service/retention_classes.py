"""Classes of retention: how long content stays, how firmly, and under which article.

Does: says what a class is, holds the least periods that this project has read in the law itself,
and refuses a deployment whose classes fall short of them. Refuses to ship any other period: what no
article in `MINIMA` fixes is for the organ to fill in, with the source that it answers for.

    {"name": "public-video", "keep_days": 30, "intake_lock_days": 30, "case_lock_days": 1825,
     "source": {"law": "公共安全视频图像信息系统管理条例", "article": "17",
                "read_on": "2026-11-26"},
     "seals": true, "delete_when_met": true}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

ClassName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Days = Annotated[int, Meta(ge=1, le=36_500)]
MODES = frozenset({"attended", "automated", "import", "*"})
"""For which a class can be chosen; `*` is any that is not named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimum:
    """A period that an article fixes.

    Attributes:
        law: its Chinese title.
        article: its number.
        keep_days: content under it is kept for at least so many days.
        read: where its text was read, and of which date.
    """

    law: str
    article: str
    keep_days: int
    read: str


MINIMA = (
    Minimum(
        law="公共安全视频图像信息系统管理条例",
        article="17",
        keep_days=30,
        read="LawRefBook/Laws, commit 2f4c5c23 (2025-04-19)",
    ),
)
"""All that was read in full; a later amendment does not show there."""


class LegalSource(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a class has its period from: law, article, and when somebody read it."""

    law: Annotated[str, Meta(min_length=1, max_length=120)]
    article: Annotated[str, Meta(min_length=1, max_length=40)]
    read_on: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d$")]

    @property
    def cited(self) -> str:
        """As statements cite it."""
        return f"{self.law} 第{self.article}条"


class RetentionClass(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One class of retention.

    Attributes:
        name: as in statements.
        source: the article that fixes its periods.
        keep_days: content is kept for at least so many days after it arrived; 0 where only its
            locks say how long.
        intake_lock_days: for so many days new content is locked in the store.
        case_lock_days: for so many days it is locked once it is admitted to a case.
        seals: whether each content is encrypted under a key of its own.
        delete_when_met: whether the law demands disposal once the purpose is met; people see to it,
            and a request needs their word that it is.
    """

    name: ClassName
    source: LegalSource
    keep_days: Annotated[int, Meta(ge=0, le=36_500)]
    intake_lock_days: Days
    case_lock_days: Days
    seals: bool = False
    delete_when_met: bool = False


def class_faults(
    classes: Sequence[RetentionClass], by_mode: Sequence[Mapping[str, str]]
) -> list[str]:
    """What is wrong with a deployment's classes, one sentence each.

    Args:
        classes: of the deployment.
        by_mode: of each organ, which class a mode of capture has.
    """
    names = [one.name for one in classes]
    twice = sorted({name for name in names if names.count(name) > 1})
    told = [f"the retention class {name} is there twice" for name in twice]
    for one in classes:
        for least in MINIMA:
            same = (one.source.law, one.source.article) == (least.law, least.article)
            if same and one.keep_days < least.keep_days:
                told.append(
                    f"the retention class {one.name} keeps for {one.keep_days} days,"
                    f" and its article demands {least.keep_days}"
                )
    for chosen in by_mode:
        told += [f"there is no mode of capture {mode}" for mode in chosen if mode not in MODES]
        told += [
            f"there is no retention class {name}" for name in chosen.values() if name not in names
        ]
    return told
