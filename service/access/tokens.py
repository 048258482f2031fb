"""Bearer tokens: random, stored hashed, expiring, revocable, bound to one organ.

Does: issues, finds, lists and revokes tokens. Refuses to keep a secret: the database holds its
SHA-256 only (the secret is 256 random bits, so a slow hash would add nothing), and it is shown
once, to the one who asked for it.

    fengni_5cJ3…43 characters of base64url…
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, insert, select, update

from service.law.permissions import Holder, Scope
from storage.db.tables import tokens

_SECRET_BYTES = 32
_SECRET = re.compile(r"fengni_[A-Za-z0-9_-]{43}")
_HOLDER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A new token, with the only copy of its secret.

    Attributes:
        id: names it in lists and revocations.
        secret: what the client sends; kept nowhere.
        expires_at: UTC.
    """

    id: str
    secret: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as the database knows it.

    Attributes:
        id: its name.
        holder: who may use it, for what.
        created_at: UTC.
        expires_at: UTC; not valid from then on.
        revoked_at: UTC; not valid from then on.
    """

    id: str
    holder: Holder
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None

    def is_valid(self, at: datetime) -> bool:
        """Whether it may be used at this time."""
        return at < self.expires_at and (self.revoked_at is None or at < self.revoked_at)


def issue_token(
    connection: Connection,
    *,
    organ: str,
    holder: str,
    scopes: Iterable[Scope],
    lifetime_s: int,
    at: datetime,
) -> IssuedToken:
    """Make a token and keep its hash.

    Args:
        connection: in a write transaction.
        organ: the organ that the holder acts for.
        holder: a pseudonym of 1 to 64 characters; appears in custody statements.
        scopes: what the holder may do.
        lifetime_s: seconds until it expires.
        at: now, UTC.

    Raises:
        ValueError: the holder is no pseudonym, or the lifetime is not positive.
    """
    if not _HOLDER.fullmatch(holder):
        raise ValueError("a holder is a pseudonym of lowercase letters, digits, '.', '_', '-'")
    if lifetime_s < 1:
        raise ValueError("a token's lifetime is positive")
    secret = "fengni_" + secrets.token_urlsafe(_SECRET_BYTES)
    issued = IssuedToken(
        id=secrets.token_hex(8), secret=secret, expires_at=at + timedelta(seconds=lifetime_s)
    )
    connection.execute(
        insert(tokens).values(
            id=issued.id,
            organ=organ,
            holder=holder,
            sha256=hash_secret(secret),
            scopes=" ".join(sorted(scope.value for scope in frozenset(scopes))),
            created_at=at,
            expires_at=issued.expires_at,
        )
    )
    return issued


def find_token(connection: Connection, secret: str) -> Token | None:
    """The token with this secret, valid or not; None if there is none.

    The look-up is by hash, so its time tells nothing about another secret.
    """
    if not _SECRET.fullmatch(secret):
        return None
    row = connection.execute(
        select(tokens).where(tokens.c.sha256 == hash_secret(secret))
    ).one_or_none()
    return None if row is None else _token(row)


def list_tokens(connection: Connection, organ: str) -> list[Token]:
    """The organ's tokens, oldest first."""
    rows = connection.execute(
        select(tokens).where(tokens.c.organ == organ).order_by(tokens.c.created_at, tokens.c.id)
    )
    return [_token(row) for row in rows]


def revoke_token(connection: Connection, token_id: str, at: datetime) -> bool:
    """End a token now; returns whether there was one that had not ended.

    Args:
        connection: in a write transaction.
        token_id: as `IssuedToken.id`.
        at: now, UTC.
    """
    done = connection.execute(
        update(tokens)
        .where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
        .values(revoked_at=at)
    )
    return done.rowcount == 1


def hash_secret(secret: str) -> str:
    """The form in which a secret is kept and looked up: SHA-256, lowercase hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(row: Row[tuple[object, ...]]) -> Token:
    return Token(
        id=row.id,
        holder=Holder(
            name=row.holder,
            organ=row.organ,
            scopes=frozenset(Scope(word) for word in row.scopes.split()),
        ),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
