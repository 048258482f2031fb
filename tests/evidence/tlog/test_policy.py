"""Policies: the specification's example with real keys, quorums, and every refusal."""

import dataclasses
from itertools import product
from types import MappingProxyType

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from evidence.errors import PolicyInvalid, QuorumMissing, SignatureInvalid, TooLarge
from evidence.tlog.checkpoint import Checkpoint, LogSigner, SignedCheckpoint, open_checkpoint
from evidence.tlog.cosignature import Cosigner
from evidence.tlog.note import NoteSignature
from evidence.tlog.policy import Group, LogLine, Policy, parse_policy

ORIGIN = "log.example/a"
LOG = LogSigner(ORIGIN, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
CHECKPOINT = Checkpoint(origin=ORIGIN, size=7, root=bytes(range(32)))
NAMES = ("X1", "X2", "X3", "Y1", "Y2", "Y3")
WITNESSES = {
    name: Cosigner(f"{name}.example", Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
    for name in NAMES
}
VKEYS = {name: WITNESSES[name].verifier_keys[0].encode() for name in NAMES}
LOG_VKEYS = [key.encode() for key in LOG.verifier_keys]

EXAMPLE = f"""\
# two organisations
log {LOG_VKEYS[0]}

witness X1 {VKEYS["X1"]}
witness X2 {VKEYS["X2"]}
witness X3 {VKEYS["X3"]}
group X-witnesses 2 X1 X2 X3

 \t witness\tY1 {VKEYS["Y1"]} \t https://y1.example/
witness Y2 {VKEYS["Y2"]}
witness Y3 {VKEYS["Y3"]}
\t# the other one
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def cosigned(*names: str, at_s: int = 1_790_000_000) -> SignedCheckpoint:
    """The checkpoint with the Ed25519 cosignatures of these witnesses."""
    lines = [WITNESSES[name].cosign(CHECKPOINT, at_s)[0] for name in names]
    return with_lines(lines)


def with_lines(lines: list[NoteSignature]) -> SignedCheckpoint:
    """The checkpoint with these lines behind the log's own."""
    opened = open_checkpoint(LOG.sign(CHECKPOINT, 1), LOG.verifier_keys)
    note = dataclasses.replace(opened.note, signatures=(*opened.note.signatures, *lines))
    return open_checkpoint(note.encode(), LOG.verifier_keys)


def test_the_example_of_the_specification_is_read() -> None:
    """tlog-policy, “Example policy”, with keys in it."""
    policy = parse_policy(EXAMPLE.encode())
    assert policy.logs == (LogLine(key=LOG.verifier_keys[0]),)
    assert list(policy.witnesses) == list(NAMES)
    assert policy.witnesses["X1"] == WITNESSES["X1"].verifier_keys[0]
    assert policy.groups == (
        Group(name="X-witnesses", threshold=2, members=("X1", "X2", "X3")),
        Group(name="Y-witnesses", threshold=1, members=("Y1", "Y2", "Y3")),
        Group(name="X-and-Y", threshold=2, members=("X-witnesses", "Y-witnesses")),
    )
    assert policy.quorum == "X-and-Y"
    assert policy.witness_urls == {"Y1": "https://y1.example/"}
    assert policy.log_keys(ORIGIN) == LOG.verifier_keys[:1]
    assert policy.log_keys("log.example/b") == ()


def test_the_example_is_satisfied_by_two_of_x_and_one_of_y() -> None:
    """All 64 sets of witnesses."""
    policy = parse_policy(EXAMPLE.encode())
    for present in product((False, True), repeat=6):
        names = [name for name, there in zip(NAMES, present, strict=True) if there]
        signed = cosigned(*names)
        witnessing = policy.judge(signed)
        assert witnessing.satisfied == (sum(present[:3]) >= 2 and sum(present[3:]) >= 1)
        assert witnessing.seen == tuple((name, 1_790_000_000) for name in names)
        if witnessing.satisfied:
            assert policy.require(signed) == witnessing
        else:
            with pytest.raises(QuorumMissing):
                policy.require(signed)


def test_a_policy_is_written_and_read_back() -> None:
    """Comments and spacing go, everything else stays."""
    policy = parse_policy(EXAMPLE.encode())
    assert parse_policy(policy.encode()) == policy
    assert parse_policy(policy.encode()).encode() == policy.encode()
    urls = Policy(
        logs=(LogLine(key=LOG.verifier_keys[1], url="https://log.example/a"),),
        witnesses=MappingProxyType({}),
        groups=(),
        quorum="none",
    )
    assert urls.encode() == f"log {LOG_VKEYS[1]} https://log.example/a\nquorum none\n".encode()
    assert parse_policy(urls.encode()) == urls


def test_one_witness_may_sign_with_either_of_two_keys() -> None:
    """Our own policies: a group `any` over the two keys of each witness."""
    x1, x2 = WITNESSES["X1"], WITNESSES["X2"]
    policy = parse_policy(
        (
            f"log {LOG_VKEYS[0]}\nlog {LOG_VKEYS[1]}\n"
            f"witness x1-ed25519 {x1.verifier_keys[0].encode()}\n"
            f"witness x1-ml-dsa-44 {x1.verifier_keys[1].encode()}\n"
            f"witness x2-ed25519 {x2.verifier_keys[0].encode()}\n"
            f"witness x2-ml-dsa-44 {x2.verifier_keys[1].encode()}\n"
            "group x1 any x1-ed25519 x1-ml-dsa-44\n"
            "group x2 any x2-ed25519 x2-ml-dsa-44\n"
            "group both all x1 x2\n"
            "quorum both\n"
        ).encode()
    )
    assert policy.log_keys(ORIGIN) == LOG.verifier_keys
    one, two = x1.cosign(CHECKPOINT, 5), x2.cosign(CHECKPOINT, 6)
    assert not policy.judge(with_lines(one)).satisfied
    witnessing = policy.judge(with_lines([one[1], two[0]]))
    assert witnessing.satisfied
    assert witnessing.seen == (("x1-ml-dsa-44", 5), ("x2-ed25519", 6))


def test_the_earliest_time_of_a_witness_counts() -> None:
    """A witness may cosign the same checkpoint again."""
    policy = parse_policy(f"witness w {VKEYS['X1']}\nquorum w\n".encode())
    lines = [WITNESSES["X1"].cosign(CHECKPOINT, at_s)[0] for at_s in (30, 10, 20)]
    assert policy.judge(with_lines(lines)).seen == (("w", 10),)


def test_a_bad_line_of_a_known_witness_spoils_the_note() -> None:
    """Although the others would make the quorum; an unknown witness's line is ignored."""
    policy = parse_policy(EXAMPLE.encode())
    lines = [WITNESSES[name].cosign(CHECKPOINT, 9)[0] for name in NAMES]
    bad = dataclasses.replace(lines[0], value=lines[1].value)
    with pytest.raises(SignatureInvalid):
        policy.judge(with_lines([bad, *lines[1:]]))
    stranger = dataclasses.replace(bad, name="stranger.example")
    assert policy.judge(with_lines([stranger, *lines[1:]])).satisfied


def test_no_witness_is_needed_where_the_quorum_is_none() -> None:
    """`quorum none`; the witnesses that are known are still verified and named."""
    policy = parse_policy(f"witness w {VKEYS['X1']}\nquorum none\n".encode())
    assert policy.judge(cosigned()).satisfied
    assert policy.judge(cosigned("X1")).seen == (("w", 1_790_000_000),)


@pytest.mark.parametrize(
    ("names", "suffice"),
    [
        ((), False),
        (("X1", "X3"), False),
        (("X1", "X3", "Y2"), True),
        (("X1", "X1", "Y2"), False),
        (("X-and-Y",), False),
        (("X-witnesses", "Y-witnesses", "stranger"), False),
    ],
)
def test_a_quorum_is_asked_by_names_alone(names: tuple[str, ...], *, suffice: bool) -> None:
    """The same as for lines of these witnesses; a group's name is nobody's."""
    assert parse_policy(EXAMPLE.encode()).is_quorum(names) is suffice
    assert parse_policy(b"quorum none\n").is_quorum(names) is True


def test_a_witnessing_is_no_condition() -> None:
    """`if policy.judge(…)` would always hold; it raises instead."""
    with pytest.raises(TypeError):
        bool(parse_policy(b"quorum none\n").judge(cosigned()))


W1 = f"witness a {VKEYS['X1']}\n"
W2 = f"witness b {VKEYS['X2']}\n"
X1_RENAMED = dataclasses.replace(WITNESSES["X1"].verifier_keys[0], name="other.example").encode()
REFUSED = {
    "empty": "",
    "no quorum": W1,
    "two quorums": "quorum none\nquorum none\n",
    "no final newline": "quorum none",
    "unknown keyword": "quorum none\nlogs x\n",
    "keyword in capitals": "QUORUM none\n",
    "carriage return": "quorum none\r\n",
    "nul": "quorum none\n#\0\n",
    "delete": "quorum none\n#\x7f\n",
    "form feed": "quorum\x0cnone\n",
    "no-break space as space": "quorum\u00a0none\n",
    "quorum without name": "quorum\n",
    "quorum of two names": f"{W1}{W2}quorum a b\n",
    "quorum undefined": "quorum a\n",
    "quorum defined later": f"quorum a\n{W1}",
    "log without key": "log\nquorum none\n",
    "log with a third word": f"log {LOG_VKEYS[0]} url more\nquorum none\n",
    "log with a broken key": f"log {LOG_VKEYS[0][:-1]}\nquorum none\n",
    "log with a witness key": f"log {VKEYS['X1']}\nquorum none\n",
    "log twice": f"log {LOG_VKEYS[0]}\nlog {LOG_VKEYS[0]} url\nquorum none\n",
    "witness without key": "witness a\nquorum none\n",
    "witness with a fourth word": f"{W1[:-1]} url more\nquorum a\n",
    "witness with a log key": f"witness a {LOG_VKEYS[0]}\nquorum a\n",
    "witness named twice": f"{W1}witness a {VKEYS['X2']}\nquorum a\n",
    "witness key twice": f"{W1}witness b {VKEYS['X1']}\nquorum a\n",
    "witness key twice under another name": f"{W1}witness b {X1_RENAMED}\nquorum a\n",
    "witness named none": f"witness none {VKEYS['X1']}\nquorum none\n",
    "group without members": f"{W1}group g any\nquorum g\n",
    "group of an undefined name": f"{W1}group g any a b\nquorum g\n",
    "group of itself": f"{W1}group g any a g\nquorum g\n",
    "group of none": f"{W1}group g any a none\nquorum g\n",
    "group with a member twice": f"{W1}group g 2 a a\nquorum g\n",
    "member of two groups": f"{W1}{W2}group g any a\ngroup h all a b\nquorum h\n",
    "group named as a witness": f"{W1}{W2}group a any b\nquorum a\n",
    "group named none": f"{W1}group none any a\nquorum none\n",
    "threshold zero": f"{W1}group g 0 a\nquorum g\n",
    "threshold above": f"{W1}group g 2 a\nquorum g\n",
    "threshold with a zero before": f"{W1}group g 01 a\nquorum g\n",
    "threshold signed": f"{W1}group g +1 a\nquorum g\n",
    "threshold endless": f"{W1}group g {'9' * 5000} a\nquorum g\n",
    "threshold misspelt": f"{W1}group g some a\nquorum g\n",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_a_policy_is_refused(text: str) -> None:
    """Each line of the specification's rules broken once."""
    with pytest.raises(PolicyInvalid):
        parse_policy(text.encode())


def test_a_policy_that_is_not_utf_8_is_refused() -> None:
    """Stricter than C2SP: names must be text that a report can show."""
    with pytest.raises(PolicyInvalid):
        parse_policy(b"quorum none\n# \xff\n")
    policy = parse_policy(f"witness 见证 {VKEYS['X1']}\nquorum 见证\n# ünd\n".encode())
    assert policy.quorum == "见证"


def many(count: int) -> str:
    """So many witnesses."""
    keys = [
        Cosigner(f"w{number}", Ed25519PrivateKey.generate(), None).verifier_keys[0].encode()
        for number in range(count)
    ]
    return "".join(f"witness w{number} {key}\n" for number, key in enumerate(keys))


def test_32_witnesses_are_read_and_the_limits_are_kept() -> None:
    """C2SP recommends at least 32; ours are 64 of each sort and 1 MiB."""
    assert len(parse_policy(f"{many(64)}quorum w63\n".encode()).witnesses) == 64
    with pytest.raises(TooLarge):
        parse_policy(f"{many(65)}quorum none\n".encode())
    with pytest.raises(TooLarge):
        parse_policy(b"#" * (1024 * 1024 + 1))


def test_a_policy_that_could_not_be_read_back_is_not_made() -> None:
    """The same rules hold for what we write."""
    policy = parse_policy(EXAMPLE.encode())
    key = WITNESSES["X1"].verifier_keys[0]
    for wrong in (
        {"quorum": "nobody"},
        {"witness_urls": {"Z1": "https://z1.example/"}},
        {"witness_urls": {"X1": "https://x1.example/ more"}},
        {"witness_urls": {"X1": ""}},
        {"logs": (LogLine(key=LOG.verifier_keys[0], url="a\nb"),)},
        {"logs": (LogLine(key=key),)},
        {"witnesses": {"X 1": key}, "groups": (), "quorum": "none", "witness_urls": {}},
        {"witnesses": {"\ud800": key}, "groups": (), "quorum": "none", "witness_urls": {}},
        {"groups": (Group(name="", threshold=1, members=("X1",)),), "quorum": "X1"},
        {"groups": (Group(name="g", threshold=0, members=("X1",)),), "quorum": "g"},
        {"groups": (Group(name="g", threshold=1, members=()),), "quorum": "g"},
    ):
        with pytest.raises(PolicyInvalid):
            dataclasses.replace(policy, **wrong)
