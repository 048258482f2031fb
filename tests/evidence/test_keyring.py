"""The key ring follows the registrar's chain; known keys follow their predecessor."""

from contextlib import nullcontext
from dataclasses import replace

import pytest

from evidence.errors import (
    EvidenceError,
    KeyChainBroken,
    KeyNotYetValid,
    KeyRevoked,
    KeyRoleRefused,
    KeyUnknown,
    KnownKeysInvalid,
)
from evidence.keyring import Keyring, Registrar
from evidence.keys import P256Signer
from evidence.known_keys import PinnedRoot, check_successor, parse_known_keys, write_known_keys
from evidence.statement import SignedStatement, Statement, parse_statement
from evidence.tlog.note import COSIGNATURE_ED25519, ED25519, VerifierKey
from tests.evidence.package_maker import AUDIENCE, ORGAN, ORIGIN, World


def ring(world: World) -> Keyring:
    """A key ring fed with everything that the world has logged."""
    keyring = Keyring(AUDIENCE, [Registrar(organ=ORGAN, public_key=world.registrar.public_key)])
    for index, (signed, _) in enumerate(world.logged):
        statement = parse_statement(signed.raw)
        if statement.kind == "key":
            keyring.apply(statement, index)
    return keyring


def read(signed: SignedStatement) -> Statement:
    """The statement without its signature."""
    return parse_statement(signed.raw)


def enrolled() -> World:
    """A world with a server at index 0 and a device at index 1."""
    world = World()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    return world


def test_a_key_is_valid_after_its_enrolment_and_up_to_its_revocation() -> None:
    """Enrolled below i, and not revoked below i."""
    world = enrolled()
    capture = read(world.photo())
    world.key("revoke", world.device, "device", reason="lost")
    keyring = ring(world)
    revoked_at = len(world.logged) - 1
    assert keyring.require(capture, 2).holder == "device"
    assert keyring.require(capture, revoked_at).revoked_index == revoked_at
    with pytest.raises(KeyNotYetValid):
        keyring.require(capture, 1)
    with pytest.raises(KeyRevoked):
        keyring.require(capture, revoked_at + 1)


def test_rotation_ends_the_old_key_and_begins_the_new() -> None:
    """One statement does both, so there is no moment without or with two."""
    world = enrolled()
    old = read(world.photo())
    fresh = P256Signer.generate()
    world.key("rotate", fresh, "device", replaces=world.device.key_id)
    index = len(world.logged) - 1
    world.device = fresh
    new = read(world.photo())
    keyring = ring(world)
    assert keyring.require(new, index + 1).key_id == fresh.key_id
    with pytest.raises(KeyRevoked):
        keyring.require(old, index + 1)
    assert keyring.public_key(fresh.key_id) == fresh.public_key
    assert len(keyring.keys()) == 4  # registrar, server, two device keys


def test_roles_organs_and_audiences_are_kept_apart() -> None:
    """A key signs only what its role, organ and deployment allow."""
    world = enrolled()
    keyring = ring(world)
    capture = read(world.photo())
    status = read(world.status())
    with pytest.raises(KeyRoleRefused):
        keyring.require(replace(capture, signer=status.signer), 5)
    with pytest.raises(KeyRoleRefused):
        keyring.require(replace(capture, organ="other"), 5)
    with pytest.raises(KeyRoleRefused):
        keyring.require(replace(capture, audience="other"), 5)
    with pytest.raises(KeyUnknown):
        keyring.require(replace(capture, signer="00" * 32), 5)
    with pytest.raises(KeyUnknown):
        keyring.head("nowhere")
    with pytest.raises(KeyUnknown):
        keyring.public_key("00" * 32)


def refuse(world: World) -> None:
    """The last logged key statement must break the chain, and change nothing."""
    *before, last = world.logged
    kept = World(registrar=world.registrar)
    kept.logged = before
    keyring = ring(kept)
    head = keyring.head(ORGAN)
    with pytest.raises(KeyChainBroken):
        keyring.apply(read(last[0]), len(before))
    assert head == keyring.head(ORGAN)


def test_a_gap_in_the_chain_is_refused() -> None:
    """Sequence and predecessor must continue."""
    world = enrolled()
    world.sequence += 1
    world.key("enrol", P256Signer.generate(), "officer")
    refuse(world)
    world = enrolled()
    world.head = "00" * 32
    world.key("enrol", P256Signer.generate(), "officer")
    refuse(world)


def test_second_enrolments_and_foreign_revocations_are_refused() -> None:
    """A key is enrolled once and ended once, by its own registrar."""
    world = enrolled()
    world.key("enrol", world.device, "device")
    refuse(world)
    world = enrolled()
    world.key("revoke", P256Signer.generate(), "device", reason="lost")
    refuse(world)
    world = enrolled()
    world.key("revoke", world.device, "device", reason="lost")
    world.key("revoke", world.device, "device", reason="lost")
    refuse(world)
    world = enrolled()
    world.key("revoke", world.registrar, "device", reason="lost")
    refuse(world)


def test_possession_must_be_of_the_same_key() -> None:
    """A registrar cannot enrol somebody else's key, nor replay a request for another role."""
    world = enrolled()
    victim, thief = P256Signer.generate(), P256Signer.generate()
    world.key("enrol", victim, "officer")
    signed, _ = world.logged.pop()
    body = {**read(signed).body, "role": "reviewer"}
    world.say(world.registrar, "key", body, previous=read(signed).previous)
    refuse(world)
    world = enrolled()
    world.key("enrol", thief, "officer")
    signed, _ = world.logged.pop()
    possession = dict(read(signed).body["possession"])  # type: ignore[arg-type]
    body = {**read(signed).body, "possession": {**possession, "signature": "MAYCAQECAQE="}}
    world.say(world.registrar, "key", body, previous=read(signed).previous)  # type: ignore[arg-type]
    refuse(world)


def test_a_key_that_ends_is_named_with_its_role_holder_and_epoch() -> None:
    """A registrar cannot end one person's key in another's name, nor hand it on to him."""
    for change in ({"holder": "other"}, {"epoch": 2}):
        world = enrolled()
        world.key("revoke", world.device, "device", reason="lost", **change)
        refuse(world)
    world = enrolled()
    world.key("revoke", world.device, "patrol", holder="device", reason="lost")
    refuse(world)
    for role, holder in (("device", "other"), ("officer", "device")):
        world = enrolled()
        fresh, old = P256Signer.generate(), world.device.key_id
        world.key("rotate", fresh, role, holder=holder, epoch=1, replaces=old)
        refuse(world)


def test_the_epochs_of_a_holder_follow_each_other_in_each_role() -> None:
    """A holder's first key in a role has epoch 1 and each further one the next."""
    world = enrolled()
    world.key("revoke", world.device, "device", reason="lost")
    world.key("enrol", P256Signer.generate(), "device")
    world.key("enrol", P256Signer.generate(), "officer", holder="person")
    world.key("enrol", P256Signer.generate(), "reviewer", holder="person", epoch=1)
    found = sorted((key.holder, key.role, key.epoch) for key in ring(world).keys().values())
    assert found == [
        ("device", "device", 1),
        ("device", "device", 2),
        ("person", "officer", 1),
        ("person", "reviewer", 1),
        ("registrar", "registrar", 1),
        ("server", "server", 1),
    ]
    for epoch in (1, 3):
        world = enrolled()
        world.key("enrol", P256Signer.generate(), "device", epoch=epoch)
        refuse(world)


def test_a_request_that_names_an_epoch_is_for_that_one() -> None:
    """What the new key asked for is what it gets."""
    for asked, refused in ((1, False), (2, True)):
        world = enrolled()
        world.key("enrol", P256Signer.generate(), "officer", asked_epoch=asked)
        if refused:
            refuse(world)
        else:
            assert len(ring(world).keys()) == 4


def test_a_request_is_never_logged_itself() -> None:
    """A key cannot vouch for itself by logging its own request."""
    world = enrolled()
    body = {"action": "request", "key_id": "00" * 32, "role": "device", "holder": "x"}
    world.say(world.registrar, "key", {**body, "public_key": "AA=="})
    refuse(world)


def test_known_keys_read_back_and_follow_their_predecessor() -> None:
    """A successor needs the next version and a threshold of the old and of its own root keys."""
    world, fresh = enrolled(), P256Signer.generate()
    first = world.known()
    second = replace(first, version=2, expires=first.expires.replace(year=2030))
    handed_on = replace(second, root_keys=(fresh.public_key,))
    assert check_successor(first, write_known_keys(second, [world.root])).version == 2
    raw = write_known_keys(handed_on, [world.root, fresh])
    assert check_successor(first, raw).root_keys == (fresh.public_key,)
    assert parse_known_keys(raw).root_keys == (fresh.public_key,)
    for wrong in (
        write_known_keys(handed_on, [fresh]),
        write_known_keys(handed_on, [world.root, fresh, P256Signer.generate()]),
        write_known_keys(replace(first, version=3), [world.root]),
        write_known_keys(replace(second, audience="other"), [world.root]),
    ):
        with pytest.raises(KnownKeysInvalid):
            check_successor(first, wrong)


def test_a_log_has_no_witness_s_key() -> None:
    """A key that signs times for others must not pass for a log's, whatever its name."""
    world = World()
    [log] = world.known().logs.values()
    for kind, refused in ((ED25519, False), (COSIGNATURE_ED25519, True)):
        key = VerifierKey(name=ORIGIN, kind=kind, public_key=log.keys[0].public_key)
        logs = {ORIGIN: replace(log, keys=(key,))}
        with pytest.raises(KnownKeysInvalid) if refused else nullcontext():
            assert world.known(logs=logs).logs[ORIGIN].keys == (key,)


def test_known_keys_are_signed_by_a_threshold_of_their_own_root_keys() -> None:
    """Nobody is handed a file whose root keys no one holds, or one key's word for two."""
    world, second, stranger = enrolled(), P256Signer.generate(), P256Signer.generate()
    known = world.known()
    both = replace(known, root_threshold=2, root_keys=(world.root.public_key, second.public_key))
    raw = write_known_keys(both, [world.root, second])
    assert parse_known_keys(raw).root_threshold == 2
    for content, signers in (
        (both, [world.root]),
        (both, [world.root, world.root]),
        (known, []),
        (known, [stranger]),
        (known, [world.root, stranger]),
        (replace(known, version=2), [stranger]),
    ):
        with pytest.raises(KnownKeysInvalid):
            write_known_keys(content, signers)


def test_a_changed_file_of_known_keys_is_refused() -> None:
    """A signature holds for the file as it was signed."""
    world = enrolled()
    raw = write_known_keys(world.known(), [world.root])
    with pytest.raises(KnownKeysInvalid):
        parse_known_keys(raw.replace(b'"version":1', b'"version":2'))


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"signatures":[],"signed":{}}', b"\xff" * 20])
def test_malformed_known_keys_are_refused(raw: bytes) -> None:
    """Whatever is wrong with the trust file, it is refused as such."""
    with pytest.raises(KnownKeysInvalid):
        parse_known_keys(raw)


@pytest.mark.parametrize("certificate", [b"no certificate", b"\x30\x03\x02\x01\x01"])
def test_a_pinned_root_is_a_certificate(certificate: bytes) -> None:
    """What cannot be read is refused here: later it would make every token look damaged."""
    world = World()
    wrong = PinnedRoot(name="an authority", certificate=certificate)
    with pytest.raises(KnownKeysInvalid):
        write_known_keys(replace(world.known(), tsa_roots=(wrong,)), [world.root])


def test_known_keys_name_nothing_twice() -> None:
    """Two registrars for one organ, or a threshold that cannot be met, are refused."""
    world = enrolled()
    known = world.known()
    (log,) = known.logs.values()
    renamed = tuple(replace(key, name="fengni.example/logs/another") for key in log.keys)
    for wrong in (
        replace(known, logs={log.origin: log, "again": log}),
        replace(known, logs={log.origin: replace(log, keys=())}),
        replace(known, logs={log.origin: replace(log, keys=renamed)}),
        replace(known, registrars=known.registrars * 2),
        replace(known, root_threshold=2),
        replace(known, root_keys=known.root_keys * 2),
    ):
        with pytest.raises(EvidenceError):
            write_known_keys(wrong, [world.root])
