"""The keys of a request: one chain of credentials for both drivers, with secrets only inside.

The chain is AWS's own (environment, profile, web identity, container or instance role), asked by `botocore`, unless a
key pair was given by hand.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from graviton.backends.objectstore._driver_answers import MalformedKeysError
from graviton.backends.objectstore.config import NO_KEY, S3Config, malformed_key
from graviton.core.clock import SystemClock
from graviton.errors import ConfigError

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from botocore.session import Session
    from obstore.store import S3Credential

__all__ = ["ChainCredentials", "aws_session", "checked_keys"]

_KEEP_CREDENTIALS: Final = timedelta(minutes=5)
"""How long the data driver uses credentials before it asks again. botocore renews those that end 10 to 15 minutes
before they do, so what it gives out is good for longer than this."""

_KEYS_SECONDS: Final = 10.0
"""How long a service that gives keys is waited for, whatever a request for objects may take: it answers in a tenth of a
second. It is asked again as every request is, which by itself it would be several times, a minute each."""

_TALKATIVE: Final = ("botocore.auth", "botocore.endpoint", "botocore.parsers", "botocore.utils")
"""Loggers that write down whole requests and answers at DEBUG, and with them session tokens and the keys of roles."""

_described: list[Any] = []
"""What botocore has read of its descriptions of S3, which it makes clients from: once per process, not per client. The
second client then takes 6 ms, not 50, and no further memory."""


def aws_session(config: S3Config) -> Session:
    """Where both drivers get their credentials from. Raises ConfigError."""
    from botocore.config import Config
    from botocore.session import get_session

    for name in _TALKATIVE:
        if logging.getLogger(name).level == logging.NOTSET:  # nobody has asked for it by name
            logging.getLogger(name).setLevel(logging.INFO)
    session = get_session()
    if not _described:
        _described.append(session.get_component("data_loader"))
    session.register_component("data_loader", _described[0])
    session.set_default_client_config(  # of those clients that botocore makes itself, to ask for keys
        Config(
            connect_timeout=min(config.connect_seconds, _KEYS_SECONDS),
            read_timeout=min(config.request_seconds, _KEYS_SECONDS),
            retries={"total_max_attempts": 1},
        )
    )
    given = config.credentials
    if given is not None:
        token = None if given.session_token is None else given.session_token.reveal()
        session.set_credentials(given.access_key, given.secret_key.reveal(), token)
    if session.get_config_variable("region") is None:  # for the service that gives the keys of a role
        session.set_config_variable("region", config.region)
    if not config.endpoint and session.get_config_variable("use_fips_endpoint"):
        raise ConfigError(
            "FIPS endpoints are asked for (AWS_USE_FIPS_ENDPOINT), and none is given",
            operation="configure",
            subject="AWS_USE_FIPS_ENDPOINT",
            hint=f"Set AWS_ENDPOINT_URL_S3=https://s3-fips.{config.region}.amazonaws.com.",
        )
    return session


_VARIABLES: Final = {
    "access_key": "AWS_ACCESS_KEY_ID",
    "secret_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}


def checked_keys(session: Session) -> ReadOnlyCredentials | None:
    """The keys of the moment; None if there are none. Raises MalformedKeysError for those that no server has given: in
    a header they would be repeated by an error."""
    found = session.get_credentials()
    if found is None:
        return None
    keys = found.get_frozen_credentials()
    wrong = malformed_key(keys.access_key, keys.secret_key, keys.token or None)
    if wrong:
        place = _VARIABLES[wrong] if found.method == "env" else f"the {wrong.replace('_', ' ')} ({found.method})"
        raise MalformedKeysError(f"{place} {NO_KEY}")
    return keys


class ChainCredentials:
    """What the data driver calls, on a thread of its own, when it needs keys."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self) -> S3Credential:
        from botocore.exceptions import NoCredentialsError

        keys = checked_keys(self._session)
        if keys is None:
            raise NoCredentialsError()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token or None,
            "expires_at": datetime.fromtimestamp(SystemClock().now_ns() // 1_000_000_000, UTC) + _KEEP_CREDENTIALS,
        }

    def __repr__(self) -> str:
        return "<credentials of the AWS chain>"
