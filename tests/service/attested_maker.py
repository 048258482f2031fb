"""A deployment whose logs a witness cosigns and an authority stamps, for tests."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from evidence.known_keys import KnownKeys, PinnedRoot
from evidence.tlog.note import parse_vkey
from evidence.tlog.policy import Group, LogLine, Policy
from service.deployment_file import AuthoritySettings, WitnessSettings
from service.key_files import log_signer
from service.transparency.tsa import create_tsa, tsa_server
from service.transparency.witness import create_witness, witness_server
from tests.service.deployment_maker import Made, make_deployment
from tests.service.server_process import free_port
from tests.transparency.running import running

NAME = "witness.example/west"


@dataclass(frozen=True, kw_only=True)
class Attested:
    """A deployment with one witness and one authority, which run while `outside` lasts.

    Attributes:
        made: the deployment with everybody's keys.
        policy: what a stranger demands of the witness.
        root: the authority's certificate, DER.
        place: holds the folders of all three.
        ports: of the witness and of the authority.
    """

    made: Made
    policy: Policy
    root: bytes
    place: Path
    ports: tuple[int, int]

    @contextmanager
    def outside(self) -> Generator[None]:
        """Let the witness and the authority answer until the block ends."""
        witness = witness_server(self.place / "west", self.ports[0])
        authority = tsa_server(self.place / "tsa", self.ports[1])
        with running(witness), running(authority):
            yield

    def pinned(self, known: KnownKeys) -> KnownKeys:
        """The same for a stranger who trusts this witness and this authority as well."""
        return replace(
            known,
            logs={origin: replace(log, policy=self.policy) for origin, log in known.logs.items()},
            tsa_roots=(PinnedRoot(name="tsa", certificate=self.root),),
        )


def make_attested(place: Path, database_url: str | None = None) -> Attested:
    """Make a deployment, its witness and its authority in an empty folder; none of them runs."""
    made = make_deployment(place / "deployment", database_url=database_url)
    log_keys = [
        key
        for organ in made.deployment.organs
        for key in log_signer(made.settings, organ.log).verifier_keys
    ]
    vkeys = create_witness(place / "west", NAME, [key.encode() for key in log_keys])
    root = create_tsa(place / "tsa")
    (made.settings.folder / "keys" / "tsa.der").write_bytes(root)
    policy = Policy(
        logs=tuple(LogLine(key=key) for key in log_keys),
        witnesses={f"west-{number}": parse_vkey(vkey) for number, vkey in enumerate(vkeys, 1)},
        groups=(Group(name="west", threshold=1, members=("west-1", "west-2")),),
        quorum="west",
    )
    (made.settings.folder / "policy.txt").write_bytes(policy.encode())
    ports = free_port(), free_port()
    witness, authority = (f"http://127.0.0.1:{port}/" for port in ports)
    organs = tuple(
        msgspec.structs.replace(
            organ,
            witnesses=(WitnessSettings(name="west", url=witness, development=True),),
            authorities=(
                AuthoritySettings(
                    name="tsa", url=authority, root_files=("keys/tsa.der",), development=True
                ),
            ),
            witness_policy_file="policy.txt",
        )
        for organ in made.deployment.organs
    )
    deployment = msgspec.structs.replace(made.deployment, organs=organs)
    (made.settings.folder / "deployment.json").write_bytes(msgspec.json.encode(deployment))
    return Attested(
        made=replace(made, deployment=deployment),
        policy=policy,
        root=root,
        place=place,
        ports=ports,
    )
