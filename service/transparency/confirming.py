"""What witnesses know of a log, asked before the log may sign.

A copy of everything that we have looks whole to us. Only somebody outside can tell that it is
old, so a log that has witnesses signs nothing before they were heard:

    1. at the start each witness is asked for the newest checkpoint that it cosigned
    2. one that saw more than we have, or another tree, ends the start: `LogRolledBack`
    3. if those that answered would make up the policy's quorum, the log is confirmed
    4. else it is open for reading alone, and they are asked again, until 2 or 3; by then the
       service runs, so 2 halts the log and the process stays to say so

Where several nodes may lead a log, whoever takes it over does the same, each time, before it signs
(`storage.log.joined`); here it is only waited for.

An answer below what the same witness has cosigned in our own database is none: it has forgotten.

Does: asks, compares, confirms or halts, and lets the organ begin its work. Refuses to be
overruled: whoever has lost his witnesses for good names others in the deployment file.
"""

import threading
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import and_, func, or_, select

from evidence.errors import EvidenceError
from evidence.tlog.note import VerifierKey
from evidence.tlog.policy import Policy
from service.context import Context, Organ
from service.deployment_file import OrganSettings, WitnessSettings
from service.logs import get_logger
from service.settings import SettingsInvalid
from service.transparency.witness_client import (
    WitnessAddress,
    WitnessRefusal,
    WitnessUnavailable,
    latest,
)
from service.transparency.workflow import witness_keys, witness_names
from storage.db.engine import Database
from storage.db.tables import cosignatures
from storage.errors import LogRolledBack
from storage.log import Log, WitnessAnswer
from storage.log.part import Heard

TIMEOUT_S = 3.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0
"""An organ that takes nothing should not wait much longer than its witnesses were away."""

_log = get_logger("confirming")


def ask_witnesses(
    organ: OrganSettings, log_keys: tuple[VerifierKey, ...], policy: Policy | None, db: Database
) -> Heard:
    """What each witness that answers knows of a log, and whether that is enough to sign.

    Args:
        organ: whose log it is.
        log_keys: public keys of the log.
        policy: says which witnesses suffice; one of them where it demands none.
        db: holds what each of them cosigned.

    Raises:
        SettingsInvalid: all of them together could never suffice.
    """
    if not organ.witnesses:
        return Heard(answers=(), enough=True)
    if policy is None or not _suffice(policy, organ.witnesses):
        raise SettingsInvalid(
            f"The organ {organ.id} has witnesses that can never make up its policy's quorum."
        )
    answers: list[WitnessAnswer] = []
    told: list[WitnessSettings] = []
    for witness in organ.witnesses:
        keys = witness_keys(policy, witness)
        answer = _ask(witness, keys, organ.log.origin, log_keys)
        if answer is None:
            continue
        answers.append(answer)
        cosigned_size = _cosigned_size(db, organ.log.id, keys)
        if answer.size < cosigned_size:
            _log.error(
                "witness_forgot", witness=witness.name, size=answer.size, cosigned=cosigned_size
            )
        else:
            told.append(witness)
    return Heard(answers=tuple(answers), enough=_suffice(policy, told))


class Confirming:
    """Lets every organ begin once its log is confirmed; one thread while one of them is not."""

    def __init__(self, context: Context, begin: Callable[[Organ], None]) -> None:
        """Prepare; `start` begins.

        Args:
            context: logs and witnesses.
            begin: called once for each organ whose log is confirmed, before its work may begin.
        """
        self._context = context
        self._begin = begin
        self._waiting = tuple(context.organs.values())
        self._begun: frozenset[str] = frozenset()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="confirming", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether somebody still asks for every organ that waits."""
        return not self._waiting or self._thread.is_alive()

    @property
    def begun(self) -> bool:
        """Whether no organ of a confirmed log waits for its beginning, which has failed then."""
        return not any(organ.log.status().confirmed for organ in self._waiting)

    def working_logs(self) -> frozenset[str] | None:
        """Ids of the logs whose organs have begun; None where all have."""
        return None if len(self._begun) == len(self._context.organs) else self._begun

    def start(self) -> None:
        """Let those begin whose logs are confirmed here, and go on looking at the others.

        A log that another node leads may be without a leader for a while: its organ begins, and
        states what it has to state, as soon as somebody answers.

        Raises:
            StorageError: an organ could not begin.
        """
        for organ in self._waiting:
            if not organ.log.status().confirmed:
                _log.error("log_unconfirmed", log=organ.log_id)
            elif organ.log.leads:
                self._let_begin(organ)
        if self._waiting:
            self._thread.start()

    def close(self) -> None:
        """End after the question at hand."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while self._waiting and not self._closing.wait(pause_s):
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            for organ in self._waiting:
                try:
                    self._look(organ)
                except Exception as error:  # noqa: BLE001 - told, and tried again at the next look
                    _log.error("confirming_stalled", log=organ.log_id, exc_info=error)

    def _look(self, organ: Organ) -> None:
        """Steps 2 and 3 of the module for one log."""
        if isinstance(organ.log, Log):  # the other sort asks by itself, whenever it leads
            heard = ask_witnesses(organ.settings, organ.log_keys, organ.policy, self._context.db)
            try:
                organ.log.confirm(heard.answers, enough=heard.enough)
            except LogRolledBack as alarm:
                _log.error("log_rolled_back", log=organ.log_id, detail=alarm.detail)
        status = organ.log.status()
        if status.halted is not None:  # only a new start looks at everything again
            self._leave(organ)
        elif status.confirmed:
            _log.info("log_confirmed", log=organ.log_id)
            self._let_begin(organ)

    def _let_begin(self, organ: Organ) -> None:
        self._begin(organ)
        self._begun |= {organ.log_id}
        self._leave(organ)

    def _leave(self, organ: Organ) -> None:
        self._waiting = tuple(one for one in self._waiting if one is not organ)


def _ask(
    witness: WitnessSettings,
    keys: tuple[VerifierKey, ...],
    origin: str,
    log_keys: tuple[VerifierKey, ...],
) -> WitnessAnswer | None:
    """What one witness answers; None where it does not, or not in its own name."""
    address = WitnessAddress(url=witness.url, keys=keys)
    try:
        seen = latest(address, origin, log_keys, timeout_s=TIMEOUT_S)
    except (WitnessUnavailable, WitnessRefusal, EvidenceError) as error:
        _log.warning("witness_silent", witness=witness.name, reason=type(error).__name__)
        return None
    if seen is None:
        return WitnessAnswer(witness=witness.name, size=0)
    tree = seen.checkpoint
    return WitnessAnswer(witness=witness.name, size=tree.size, root=tree.root)


def _suffice(policy: Policy, witnesses: Iterable[WitnessSettings]) -> bool:
    """Whether these make up the quorum; where the policy demands none, one of them does."""
    names = {name for witness in witnesses for name in witness_names(policy, witness)}
    return bool(names) and policy.is_quorum(names)


def _cosigned_size(db: Database, log: str, keys: Sequence[VerifierKey]) -> int:
    """The largest tree of which we keep a cosignature by one of these keys; 0 for none."""
    made = [
        and_(cosignatures.c.witness == key.name, cosignatures.c.witness_key == key.key_id.hex())
        for key in keys
    ]
    query = select(func.max(cosignatures.c.size)).where(cosignatures.c.log == log, or_(*made))
    with db.read() as connection:
        return connection.execute(query).scalar_one() or 0
