"""From an Authorization header to a holder.

Does: reads the bearer token and remembers its holder for a few seconds, so that a busy device
does not cost a query for each request. Refuses: other schemes, tokens in the URL, and to tell an
unknown token from an expired or revoked one.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

from service.access.tokens import Token, find_token, hash_secret
from service.law.permissions import Holder, Scope, require_scope
from service.problems import Problem
from storage.db.engine import Database

_REMEMBERED = 4096
_SCHEME = "bearer "


class Doorkeeper:
    """Knows who holds which token.

    Threads may share it. Unknown tokens are not remembered, so guessing fills no memory.
    """

    def __init__(self, db: Database, clock: Callable[[], datetime], remember_s: int) -> None:
        """Begin with nobody known.

        Args:
            db: holds the tokens.
            clock: tells the time, UTC.
            remember_s: how long a token is believed without asking again, in seconds.
        """
        self._db = db
        self._clock = clock
        self._remember_s = remember_s
        self._known: OrderedDict[str, tuple[Token, float]] = OrderedDict()
        self._lock = threading.Lock()

    def admit(self, authorization: str | None, scope: Scope) -> Holder:
        """The holder of the header's token, if it is valid and carries the scope.

        Args:
            authorization: the header's value, or None where there is none.
            scope: what the call needs.

        Raises:
            Problem: `unauthenticated`.
            NotPermitted: the token lacks the scope.
        """
        if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise Problem("unauthenticated", "The request carries no bearer token.")
        token = self._find(authorization[len(_SCHEME) :].strip())
        if token is None or not token.is_valid(self._clock()):
            raise Problem("unauthenticated", "The bearer token is not valid.")
        require_scope(token.holder, scope)
        return token.holder

    def _find(self, secret: str) -> Token | None:
        name = hash_secret(secret)  # so that a memory dump holds no secret that was only remembered
        now = time.monotonic()
        with self._lock:
            token, until = self._known.get(name, (None, 0.0))
        if token is not None and now < until:
            return token
        with self._db.read() as connection:
            token = find_token(connection, secret)
        with self._lock:
            if token is None:
                self._known.pop(name, None)
            elif self._remember_s:
                self._known[name] = (token, now + self._remember_s)
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return token
