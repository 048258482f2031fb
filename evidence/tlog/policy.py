"""Trust policies: which logs are accepted, which witnesses are known, how many must agree.

    log <vkey> [<url>]

    witness east <vkey> [<url>]
    witness west <vkey>
    group both all east west
    quorum both

A vkey is one key, so a log or witness that signs with two algorithms has two lines; a group
`any` over a witness's two keys makes them one voice. This module reads and writes policies and
judges a checkpoint by one. A policy is a trust anchor: it is never taken from what it judges.
It is stricter than C2SP in one thing: the file must be UTF-8, since a name that cannot be shown
cannot be reported.

Source: C2SP tlog-policy.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NoReturn

from evidence.errors import KeyInvalid, PolicyInvalid, QuorumMissing, TooLarge
from evidence.tlog.checkpoint import SignedCheckpoint
from evidence.tlog.cosignature import TreeHead, verify_cosignature
from evidence.tlog.note import (
    COSIGNATURE_ED25519,
    ED25519,
    ML_DSA_44,
    NoteSignature,
    VerifierKey,
    parse_vkey,
)

MAX_POLICY_BYTES: Final = 1024 * 1024
MAX_LINES_OF_A_SORT: Final = 64
NONE: Final = "none"
LOG_KINDS: Final = frozenset({ED25519, ML_DSA_44})
WITNESS_KINDS: Final = frozenset({COSIGNATURE_ED25519, ML_DSA_44})

_REFUSED_OCTETS = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_WORD = re.compile("[^\\x00-\\x20\\x7f\\ud800-\\udfff]+")
_THRESHOLD = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One accepted key of a log; its name is the log's origin.

    Attributes:
        key: type 0x01 or 0x06.
        url: where the log is, or empty; opaque here.
    """

    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group witnesses a checkpoint if enough of its members do.

    Attributes:
        name: shared namespace with the witnesses.
        threshold: 1 ≤ threshold ≤ number of members.
        members: names of witnesses and of groups defined before.
    """

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessing:
    """What the witnesses of a policy say about one checkpoint. It has no truth value.

    Attributes:
        satisfied: whether the quorum has cosigned.
        seen: (witness name, POSIX seconds) of each known witness that cosigned, in the order
            of the policy; the earliest time where one cosigned several times.
    """

    satisfied: bool
    seen: tuple[tuple[str, int], ...]

    def __bool__(self) -> NoReturn:
        """Refuse to be a condition: ask `satisfied`."""
        raise TypeError("a witnessing has no truth value; ask for `satisfied`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy, complete and consistent.

    Attributes:
        logs: accepted keys of logs; may be empty where the log is known otherwise.
        witnesses: keys by name, in the order of their lines.
        groups: in the order of their lines; each names only what was defined before.
        quorum: name of a witness or group, or `none`.
        witness_urls: addresses by witness name, for those that have one.
    """

    logs: tuple[LogLine, ...]
    witnesses: Mapping[str, VerifierKey]
    groups: tuple[Group, ...]
    quorum: str
    witness_urls: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Refuse what `parse_policy` would not read back as an equal policy."""
        _check_keys([line.key for line in self.logs], LOG_KINDS)
        _check_keys(list(self.witnesses.values()), WITNESS_KINDS)
        _check_words([*self.witnesses, *(group.name for group in self.groups)])
        _check_words([line.url for line in self.logs if line.url])
        _check_words(list(self.witness_urls.values()))
        if not self.witness_urls.keys() <= self.witnesses.keys():
            raise PolicyInvalid("an address belongs to no witness of the policy")
        _check_groups(self.witnesses, self.groups, self.quorum)

    def log_keys(self, origin: str) -> tuple[VerifierKey, ...]:
        """Return the accepted keys of one log; none where it is not listed."""
        return tuple(line.key for line in self.logs if line.key.name == origin)

    def encode(self) -> bytes:
        """Return the policy as a file without comments, witnesses before groups."""
        urls = self.witness_urls
        lines = [
            *(("log", line.key.encode(), line.url) for line in self.logs),
            *(("witness", n, key.encode(), urls.get(n, "")) for n, key in self.witnesses.items()),
            *(("group", group.name, str(group.threshold), *group.members) for group in self.groups),
            ("quorum", self.quorum),
        ]
        return "".join(" ".join(filter(None, line)) + "\n" for line in lines).encode()

    def judge(self, signed: SignedCheckpoint) -> Witnessing:
        """Verify the cosignatures of known witnesses and ask whether the quorum is met.

        Lines of unknown keys are ignored. That the log itself is accepted is not asked here:
        open the checkpoint with `log_keys(origin)`.

        Args:
            signed: from `open_checkpoint`.

        Raises:
            SignatureInvalid: a line of a known witness does not verify. The whole note is
                refused then, as signed-note demands, however many others hold.
        """
        return self.judge_lines(signed.checkpoint, signed.note.signatures)

    def judge_lines(self, head: TreeHead, lines: Sequence[NoteSignature]) -> Witnessing:
        """Do as `judge` does for signature lines that travel apart from the log's own.

        Args:
            head: the checkpoint that they are said to cover.
            lines: in any order; those of unknown keys are ignored.

        Raises:
            SignatureInvalid: a line of a known witness does not verify.
        """
        seen: dict[str, int] = {}
        for name, key in self.witnesses.items():
            times = [verify_cosignature(head, line, key) for line in lines if key.made(line)]
            if times:
                seen[name] = min(times)
        return Witnessing(satisfied=self.is_quorum(seen), seen=tuple(seen.items()))

    def is_quorum(self, names: Iterable[str]) -> bool:
        """Whether these witnesses suffice.

        Args:
            names: of witnesses as in `witnesses`; others are ignored.
        """
        met = self.witnesses.keys() & set(names) | {NONE}
        for group in self.groups:  # each names only earlier ones, so one pass suffices
            if len(met.intersection(group.members)) >= group.threshold:
                met.add(group.name)
        return self.quorum in met

    def require(self, signed: SignedCheckpoint) -> Witnessing:
        """Do as `judge` does and raise QuorumMissing unless the quorum is met."""
        witnessing = self.judge(signed)
        if not witnessing.satisfied:
            raise QuorumMissing("too few of the known witnesses have cosigned the checkpoint")
        return witnessing


class _Draft:
    """A policy while its lines are read."""

    def __init__(self) -> None:
        self.logs: list[LogLine] = []
        self.witnesses: dict[str, VerifierKey] = {}
        self.urls: dict[str, str] = {}
        self.groups: list[Group] = []
        self.quorums: list[str] = []

    def names(self) -> set[str]:
        """Return what is defined so far."""
        return self.witnesses.keys() | {group.name for group in self.groups}

    def log(self, words: list[str]) -> None:
        """`log <vkey> [<url>]`."""
        _need(1 <= len(words) <= 2)
        self.logs.append(LogLine(key=_key(words[0]), url="".join(words[1:])))
        _limit(len(self.logs))

    def witness(self, words: list[str]) -> None:
        """`witness <name> <vkey> [<url>]`."""
        _need(2 <= len(words) <= 3 and words[0] not in self.names())
        self.witnesses[words[0]] = _key(words[1])
        if words[2:]:
            self.urls[words[0]] = words[2]
        _limit(len(self.witnesses))

    def group(self, words: list[str]) -> None:
        """`group <name> all|any|<k> <name>...`."""
        _need(len(words) >= 3 and self.names().issuperset(words[2:]))
        name, threshold, *members = words
        counts = {"any": "1", "all": str(len(members))}
        decimal = counts.get(threshold, threshold)
        _need(_THRESHOLD.fullmatch(decimal) is not None)
        self.groups.append(Group(name=name, threshold=int(decimal), members=tuple(members)))
        _limit(len(self.groups))

    def quorum(self, words: list[str]) -> None:
        """`quorum <name>`."""
        _need(len(words) == 1 and not self.quorums and words[0] in self.names() | {NONE})
        self.quorums += words


def parse_policy(data: bytes) -> Policy:
    """Read a policy file.

    Args:
        data: UTF-8, at most 1 MiB, each line with its newline.

    Returns:
        The policy; comments, blank lines and spacing are not kept.

    Raises:
        TooLarge: more bytes, or more than 64 logs, witnesses or groups.
        PolicyInvalid: anything else; KeyInvalid never leaves this function.

    Source: C2SP tlog-policy, “Policy file syntax and structure”.
    """
    if len(data) > MAX_POLICY_BYTES:
        raise TooLarge("the policy is larger than 1 MiB")
    if _REFUSED_OCTETS.search(data):
        raise PolicyInvalid("the policy has control characters")
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise PolicyInvalid("the policy is not UTF-8") from error
    if lines.pop():
        raise PolicyInvalid("the last line of the policy has no newline")
    draft = _Draft()
    readers: dict[str, Callable[[list[str]], None]] = {
        "log": draft.log,
        "witness": draft.witness,
        "group": draft.group,
        "quorum": draft.quorum,
    }
    for line in lines:
        words = line.replace("\t", " ").strip(" ").split(" ")
        keyword, *rest = [word for word in words if word] or [""]
        if keyword and not keyword.startswith("#"):
            _need(keyword in readers)
            readers[keyword](rest)
    _need(len(draft.quorums) == 1)
    return Policy(
        logs=tuple(draft.logs),
        witnesses=MappingProxyType(draft.witnesses),
        groups=tuple(draft.groups),
        quorum=draft.quorums[0],
        witness_urls=MappingProxyType(draft.urls),
    )


def _need(holds: bool) -> None:  # noqa: FBT001  the condition is the argument
    if not holds:
        raise PolicyInvalid("a line of the policy is malformed, repeated or out of order")


def _limit(count: int) -> None:
    if count > MAX_LINES_OF_A_SORT:
        raise TooLarge("the policy has more than 64 logs, witnesses or groups")


def _key(text: str) -> VerifierKey:
    try:
        return parse_vkey(text)
    except KeyInvalid as error:
        raise PolicyInvalid("a verifier key of the policy is malformed") from error


def _check_keys(keys: list[VerifierKey], kinds: frozenset[int]) -> None:
    if any(key.kind not in kinds for key in keys):
        raise PolicyInvalid("a key of the policy is of a type that does not fit its line")
    if len({key.public_key for key in keys}) != len(keys):
        raise PolicyInvalid("two lines of the policy have the same public key")


def _check_words(words: list[str]) -> None:
    if not all(map(_WORD.fullmatch, words)):
        raise PolicyInvalid("a name or address of the policy is empty or has spaces")


def _check_groups(
    witnesses: Mapping[str, VerifierKey], groups: tuple[Group, ...], quorum: str
) -> None:
    defined = set(witnesses)
    members: set[str] = set()
    for group in groups:
        own = set(group.members)
        if not defined >= own or len(own) != len(group.members) or own & members:
            raise PolicyInvalid("a group names something undefined, or something twice")
        if not 1 <= group.threshold <= len(own):
            raise PolicyInvalid("a group's threshold lies between 1 and its number of members")
        if group.name in defined:
            raise PolicyInvalid("a name of the policy is defined twice")
        defined.add(group.name)
        members |= own
    if NONE in defined or quorum not in defined | {NONE}:
        raise PolicyInvalid("the quorum names something undefined, or `none` is defined")
