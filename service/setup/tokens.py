"""A deployment's bearer tokens, from its own machine.

Does: issues, lists and ends tokens in the deployment's database, beside a server that runs or not.
Refuses organs that the deployment does not have. A server believes a token for a few seconds
without asking again, so an ended one may work that much longer.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection

from service.access.tokens import IssuedToken, Token, issue_token, list_tokens, revoke_token
from service.deployment_file import Deployment, database_url, read_deployment
from service.law.permissions import Scope
from service.settings import Settings
from service.setup.deployment import SetupRefused
from storage.db.engine import Database

DAY_S = 24 * 3600


def issue(
    settings: Settings,
    *,
    organ: str | None,
    holder: str,
    scopes: Sequence[str],
    days: int,
    at: datetime,
) -> IssuedToken:
    """Make a token; its secret is shown this once.

    Args:
        settings: of the deployment.
        organ: for which the holder acts; None where the deployment has only one.
        holder: a pseudonym, as it will appear in custody statements.
        scopes: words of `Scope`; empty for all of them.
        days: until it expires, ≥ 1.
        at: now, UTC.

    Raises:
        SetupRefused: no such organ or scope, or the holder is no pseudonym.
        StorageError: the database is missing or not of this version.
    """
    with _writing(settings) as (connection, deployment):
        try:
            return issue_token(
                connection,
                organ=_organ(deployment, organ),
                holder=holder,
                scopes=[Scope(word) for word in scopes] or list(Scope),
                lifetime_s=days * DAY_S,
                at=at,
            )
        except ValueError as error:
            words = ", ".join(scope.value for scope in Scope)
            raise SetupRefused(
                f"A holder is a pseudonym of a-z, 0-9, '.', '_', '-', and a scope one of {words}."
            ) from error


def listed(settings: Settings) -> list[Token]:
    """Every token of every organ, oldest first; none of them with its secret.

    Raises:
        StorageError: the database is missing or not of this version.
    """
    with _writing(settings) as (connection, deployment):
        return [one for organ in deployment.organs for one in list_tokens(connection, organ.id)]


def describe(token: Token) -> str:
    """One line about a token for people; nothing that would let anybody in."""
    holder = token.holder
    scopes = " ".join(sorted(scope.value for scope in holder.scopes))
    ended = f"revoked {token.revoked_at:%Y-%m-%d}" if token.revoked_at else "not revoked"
    return (
        f"{token.id}  {holder.organ}  {holder.name}  {scopes}"
        f"  until {token.expires_at:%Y-%m-%d}, {ended}"
    )


def revoke(settings: Settings, token_id: str, at: datetime) -> None:
    """End a token now.

    Raises:
        SetupRefused: there is none of this id that has not ended.
        StorageError: the database is missing or not of this version.
    """
    with _writing(settings) as (connection, _):
        if not revoke_token(connection, token_id, at):
            raise SetupRefused("No token of this id is in force.")


def _organ(deployment: Deployment, organ: str | None) -> str:
    organs = [one.id for one in deployment.organs]
    if organ is None and len(organs) == 1:
        return organs[0]
    if organ not in organs:
        raise SetupRefused(f"Name one of the deployment's organs: {', '.join(organs)}.")
    return organ


@contextmanager
def _writing(settings: Settings) -> Generator[tuple[Connection, Deployment]]:
    deployment = read_deployment(settings)
    db = Database(database_url(settings, deployment))
    try:
        db.require_schema()
        with db.write() as connection:
            yield connection, deployment
    finally:
        db.close()
