"""`fengni log fsck`: every log of a deployment, recomputed from what is kept.

Does: opens the stores read-only beside a running server or without one, and checks each log
under the public keys of its own key files and those of its pinned witnesses. Refuses to repair
anything.
"""

from dataclasses import dataclass

from service.context import log_stores, open_heads
from service.data_keys import open_keys
from service.deployment_file import OrganSettings, database_url, read_deployment
from service.key_files import log_signer, witness_policy
from service.settings import Settings
from storage.db.engine import Database
from storage.errors import StorageError
from storage.keys import KeyStore
from storage.log.findings import Finding
from storage.log.fsck import fsck
from storage.log.rows import newest_size


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedLog:
    """One log and what is wrong with it.

    Attributes:
        log: its id in addresses.
        origin: its name in checkpoints.
        size: of its newest checkpoint.
        findings: empty where it is clean.
    """

    log: str
    origin: str
    size: int
    findings: tuple[Finding, ...]

    def document(self) -> dict[str, object]:
        """The same as JSON."""
        return {
            "log": self.log,
            "origin": self.origin,
            "size": self.size,
            "findings": [
                {"code": one.code, "place": one.place, "detail": one.detail}
                for one in self.findings
            ],
        }


def check_logs(settings: Settings) -> list[CheckedLog]:
    """Check every log of a deployment.

    Raises:
        SettingsInvalid: it is no deployment.
        StorageError: the key file of the texts is not there.
    """
    deployment = read_deployment(settings)
    db = Database(database_url(settings, deployment))
    try:
        with open_keys(settings, deployment) as keys, open_heads(settings, deployment) as heads:
            return [_check(settings, organ, db, keys, heads) for organ in deployment.organs]
    finally:
        db.close()


def _check(
    settings: Settings,
    organ: OrganSettings,
    db: Database,
    keys: KeyStore,
    heads: Database | None,
) -> CheckedLog:
    stores = log_stores(settings, organ.log, db, keys, heads)
    policy = witness_policy(settings, organ)
    witness_keys = () if policy is None else tuple(policy.witnesses.values())
    log_keys = log_signer(settings, organ.log).verifier_keys
    try:
        findings = fsck(stores, log_keys, witness_keys)
        with db.read() as connection:
            size = newest_size(connection, organ.log.id)
    except StorageError as fault:  # of one log: the others are checked all the same
        findings, size = [Finding(code="unreadable", place="stores", detail=fault.detail)], None
    return CheckedLog(
        log=organ.log.id,
        origin=organ.log.origin,
        size=size or 0,
        findings=tuple(findings),
    )
