"""The store of data keys that the settings name, and what wraps the keys in it.

Does: opens or makes it: a file of this deployment, or a database on another server that many nodes
reach; wrapped by a key-encryption key of a file or of a hardware module. Refuses a key database
without anything that wraps, one on the log's own server, and to make anything by opening it.
"""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from service.deployment_file import Deployment, Places
from service.settings import Settings, SettingsInvalid
from storage.db.engine import Database
from storage.keys import KeyStore
from storage.keys.stores import FileKeys, SharedKeys
from storage.keys.tables import prepare
from storage.keys.token import TokenWrapper
from storage.keys.wrapping import FileWrapper, KeyWrapper


def keys_url(settings: Settings, deployment: Deployment) -> str | None:
    """Where the keys are, or None where they are a file in the folder."""
    return settings.keys_url or deployment.keys_url


@contextmanager
def open_keys(
    settings: Settings, deployment: Deployment, db: Database | None = None
) -> Generator[KeyStore]:
    """Open the store for the length of the block.

    Args:
        settings: from the environment.
        deployment: from its file.
        db: the log's database, which may not lie on the keys' server.

    Raises:
        SettingsInvalid: a setting is missing or contradicts another.
        NotFound: the key file, or what wraps the keys, is not there.
        Unavailable: one of them does not answer.
    """
    with ExitStack() as opened:
        wrapper = open_wrapper(settings, deployment)
        if isinstance(wrapper, TokenWrapper):
            opened.callback(wrapper.close)
        url = keys_url(settings, deployment)
        if url is None:
            store: KeyStore = FileKeys(Places(settings.folder).text_keys, wrapper)
            opened.callback(store.close)
        else:
            if wrapper is None:
                raise SettingsInvalid("Keys on a server are wrapped: name FENGNI_KEK_FILE.")
            shared = SharedKeys(Database(url), wrapper)
            store = shared
            opened.callback(store.close)
            if db is not None:
                shared.require_apart(db)
        yield store


def open_wrapper(settings: Settings, deployment: Deployment) -> KeyWrapper | None:
    """What wraps the keys, or None where nothing does.

    Raises:
        SettingsInvalid, NotFound, Unavailable: see `open_keys`.
    """
    if settings.pkcs11_module is not None:
        return _token(settings, create=False)
    path = kek_path(settings, deployment)
    return None if path is None else FileWrapper(path)


def kek_path(settings: Settings, deployment: Deployment) -> Path | None:
    """The file of key-encryption keys, or None where none is named."""
    if settings.kek_file is not None:
        return settings.kek_file
    return None if deployment.kek_file is None else settings.folder / deployment.kek_file


def make_wrapper(settings: Settings, deployment: Deployment) -> KeyWrapper | None:
    """Make what wraps the keys where it is named and not there, else open it.

    Raises:
        SettingsInvalid, Unavailable: see `open_keys`.
    """
    if settings.pkcs11_module is not None:
        return _token(settings, create=True)
    path = kek_path(settings, deployment)
    if path is None:
        return None
    return FileWrapper(path) if path.exists() else FileWrapper.create(path)


def make_keys(
    settings: Settings,
    deployment: Deployment,
    *,
    owner_url: str | None = None,
    service_role: str | None = None,
) -> None:
    """Make the store that the settings name, and what wraps its keys.

    Args:
        settings: from the environment.
        deployment: from its file.
        owner_url: on a server, for the role that owns the tables; None for the same role.
        service_role: on a server, the service's role where it is another one.

    Raises:
        AlreadyExists: there is a key file.
        SettingsInvalid, Unavailable: see `open_keys`.
    """
    wrapper = make_wrapper(settings, deployment)
    url = keys_url(settings, deployment)
    if url is None:
        FileKeys.create(Places(settings.folder).text_keys, wrapper).close()
    else:
        prepare_shared(owner_url or url, service_role=service_role)
    if isinstance(wrapper, TokenWrapper):
        wrapper.close()


def prepare_shared(url: str, *, service_role: str | None = None) -> None:
    """Make the tables of a key database; repeating changes nothing.

    Raises:
        Unavailable: it does not answer.
    """
    db = Database(url)
    try:
        prepare(db, service_role=service_role)
    finally:
        db.close()


def _token(settings: Settings, *, create: bool) -> TokenWrapper:
    module, token, pin = settings.pkcs11_module, settings.pkcs11_token, settings.pkcs11_pin_file
    if module is None or token is None or pin is None:
        raise SettingsInvalid(
            "FENGNI_PKCS11_MODULE needs FENGNI_PKCS11_TOKEN and FENGNI_PKCS11_PIN_FILE."
        )
    try:
        digits = pin.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid("FENGNI_PKCS11_PIN_FILE cannot be read.") from error
    return TokenWrapper(module, token, digits, create=create)
