"""Bearer tokens: hashed, expiring, revocable, bound to an organ and to scopes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from service.access.bearer import Doorkeeper
from service.access.tokens import find_token, issue_token, list_tokens, revoke_token
from service.law.permissions import Holder, Scope
from service.law.refusals import NotPermitted
from service.problems import Problem
from storage.db.engine import Database
from storage.db.tables import tokens

AT = datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A fresh database."""
    database = Database(database_url)
    yield database
    database.close()


def issue(db: Database, *scopes: Scope, lifetime_s: int = 3600) -> str:
    """Issue a token to an inspector of county-a and return its secret."""
    with db.write() as connection:
        return issue_token(
            connection,
            organ="county-a",
            holder="officer-003",
            scopes=scopes,
            lifetime_s=lifetime_s,
            at=AT,
        ).secret


def test_a_secret_is_not_in_the_database(db: Database) -> None:
    """Only the hash is kept."""
    secret = issue(db, Scope.READ)
    with db.read() as connection:
        row = connection.execute(select(tokens)).one()
    assert secret not in str(tuple(row))


def test_a_valid_token_names_its_holder(db: Database) -> None:
    """Organ, pseudonym and scopes come from the row."""
    secret = issue(db, Scope.READ, Scope.VIEW)
    keeper = Doorkeeper(db, lambda: AT, 0)
    assert keeper.admit(f"Bearer {secret}", Scope.VIEW) == Holder(
        name="officer-003", organ="county-a", scopes=frozenset({Scope.READ, Scope.VIEW})
    )


@pytest.mark.parametrize(
    "header",
    [None, "", "Basic YTpi", "Bearer", "Bearer ", "Bearer fengni_x", "Bearer 令牌", "bearer\x00"],
)
def test_without_a_known_token_nobody_enters(db: Database, header: str | None) -> None:
    """Missing, malformed and unknown tokens get the same answer."""
    with pytest.raises(Problem) as caught:
        Doorkeeper(db, lambda: AT, 0).admit(header, Scope.READ)
    assert caught.value.code == "unauthenticated"


def test_a_scope_that_was_not_given_is_missing(db: Database) -> None:
    """A valid token for something else is a refusal, not a missing token."""
    secret = issue(db, Scope.READ)
    with pytest.raises(NotPermitted):
        Doorkeeper(db, lambda: AT, 0).admit(f"Bearer {secret}", Scope.EXPORT)


def test_an_expired_token_is_no_token(db: Database) -> None:
    """It ends at its time, also while it is remembered."""
    secret = issue(db, Scope.READ, lifetime_s=10)
    now = [AT]
    keeper = Doorkeeper(db, lambda: now[0], 60)
    keeper.admit(f"Bearer {secret}", Scope.READ)
    now[0] = AT + timedelta(seconds=10)
    with pytest.raises(Problem):
        keeper.admit(f"Bearer {secret}", Scope.READ)


def test_a_revoked_token_is_no_token(db: Database) -> None:
    """Revocation ends it once, for good."""
    secret = issue(db, Scope.READ)
    with db.write() as connection:
        token = find_token(connection, secret)
        assert token is not None
        outcomes = [revoke_token(connection, token.id, AT) for _ in range(2)]
    assert outcomes == [True, False]
    with pytest.raises(Problem):
        Doorkeeper(db, lambda: AT, 0).admit(f"Bearer {secret}", Scope.READ)


def test_lists_hold_one_organ(db: Database) -> None:
    """Another organ's tokens are not listed."""
    issue(db, Scope.READ)
    with db.read() as connection:
        names = [token.holder.name for token in list_tokens(connection, "county-a")]
        others = list_tokens(connection, "county-b")
    assert (names, others) == (["officer-003"], [])


@pytest.mark.parametrize(
    ("holder", "lifetime_s"), [("Zhang San", 60), ("", 60), ("officer-003", 0)]
)
def test_a_token_needs_a_pseudonym_and_a_lifetime(
    db: Database, holder: str, lifetime_s: int
) -> None:
    """Names of people never become holders."""
    with db.write() as connection, pytest.raises(ValueError, match=r"holder|lifetime"):
        issue_token(
            connection, organ="county-a", holder=holder, scopes=(), lifetime_s=lifetime_s, at=AT
        )
