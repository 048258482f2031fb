"""Keys of devices and people from the command line: made here, enrolled by the registrar.

Does: writes a new key with its request, and hands a registrar's statements to a server over HTTP
like any other client. Refuses to send a private key anywhere.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from evidence.errors import EvidenceError
from evidence.keys import P256Signer
from evidence.kinds.key import ENROLLABLE
from evidence.kinds.members import Role
from evidence.statement import SignedStatement, from_wire, to_wire
from service.client.announce import ProblemAnswer
from service.client.api import Api
from service.client.config import read_config
from service.client.failures import Misused
from service.private_files import create_private
from service.setup.registrar import Desk, Rejected, open_desk, request_key


class _Item(msgspec.Struct, frozen=True):
    index: int | None = None
    problem: ProblemAnswer | None = None


class _Answer(msgspec.Struct, frozen=True):
    items: tuple[_Item, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A registrar's desk with the way to the log."""

    desk: Desk
    api: Api

    def submit(self, signed: SignedStatement) -> None:
        """Hand a key statement in.

        Raises:
            Rejected: the log refused it for good.
            ServerRefused, Undecided: nothing is known; the desk hands it in again next time.
        """
        answer = self.api.post("/v1/captures", {"statements": [to_wire(signed)]}, _Answer)
        for item in answer.items:
            if item.problem is not None:
                raise Rejected(item.problem.sentence)


def make_key(
    out: Path,
    request: Path,
    *,
    audience: str,
    organ: str,
    role: str,
    holder: str,
    at: datetime,
    salt: str,
) -> str:
    """Write a new private key and the request of its enrolment.

    Returns:
        The key's id.

    Raises:
        Misused: a name is malformed, or a file is there already.
    """
    if role not in ENROLLABLE:
        raise Misused(f"--role is one of {', '.join(ENROLLABLE)}.")
    signer = P256Signer.generate()
    try:
        asked = request_key(
            signer,
            audience=audience,
            organ=organ,
            role=Role(role),
            holder=holder,
            at=at,
            salt=salt,
        )
        create_private(out, signer.to_pem())
        create_private(request, msgspec.json.encode(to_wire(asked)) + b"\n")
    except EvidenceError as error:
        raise Misused(f"No request can be made. {error.detail} ({error.pointer})") from error
    except FileExistsError as error:
        raise Misused(f"{error.filename} is there already; a key is never overwritten.") from error
    except OSError as error:
        raise Misused(f"{error.filename} cannot be written.") from error
    return signer.key_id


@contextmanager
def open_post(
    registrar: Path,
    named: Path | None,
    environment: Path | None,
    *,
    clock: Callable[[], datetime],
    fresh_salt: Callable[[], str],
) -> Generator[Post]:
    """Open a registrar's desk and the connection of a client's configuration.

    Raises:
        RequestRefused: there is no desk.
        Misused: the configuration is not usable.
    """
    desk = open_desk(registrar, clock=clock, fresh_salt=fresh_salt)
    config = read_config(named, environment)
    with Api(config.server, config.token) as api:
        yield Post(desk=desk, api=api)


def enrol_key(post: Post, request: Path) -> str:
    """Enrol the key of a request file; returns its id.

    Raises:
        Misused: the file holds no statement.
        RequestRefused, Rejected: see `Desk.enrol`.
    """
    try:
        asked = from_wire(msgspec.json.decode(request.read_bytes()))
    except OSError as error:
        raise Misused(f"{request} cannot be read.") from error
    except (msgspec.DecodeError, EvidenceError) as error:
        raise Misused(f"{request} holds no request of a key.") from error
    post.desk.enrol(asked, post.submit)
    return asked.key_id
