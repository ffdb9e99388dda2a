"""The database that environment variables name: PG_JDBC_URL, PG_USERNAME and PG_PASSWORD."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from graviton.assembly.environment import Reader
from graviton.core.paths import is_plain
from graviton.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    from graviton.backends.postgres.config import PgConfig

__all__ = ["postgres_settings"]

_MAX_PORT = 65535


def postgres_settings(get: Reader, *, is_used: bool) -> PgConfig | None:
    """The database, if it is used. Raises ConfigError, quoting nothing of the address, for passwords' sake; also where
    it is not used: what is wrong with it is told today, not on the day it is."""
    address = get.value("PG_JDBC_URL", _address, "")
    if not is_used:
        return None
    if not address:
        raise ConfigError(
            "GRAVITON_METADATA=postgres needs PG_JDBC_URL, and it is not set",
            operation="configure",
            subject="PG_JDBC_URL",
            hint="Write postgresql://HOST:PORT/DATABASE; the user and password are PG_USERNAME and PG_PASSWORD.",
        )
    from graviton.backends.postgres.config import parse_address

    try:
        return parse_address(address, get.value("PG_USERNAME", str, ""), get.value("PG_PASSWORD", str, ""))
    except ImportError as error:
        raise ConfigError(
            f"GRAVITON_METADATA=postgres needs the PostgreSQL driver, and it is not installed: {error}",
            operation="configure",
            subject="GRAVITON_METADATA",
            hint="Install it: pip install 'graviton[postgres]'.",
        ) from error


def _address(text: str) -> str:
    scheme, separator, rest = text.removeprefix("jdbc:").partition("://")
    schemes = ("postgresql",) if text.startswith("jdbc:") else ("postgresql", "postgres")
    hint = "Write postgresql://HOST/DATABASE or jdbc:postgresql://HOST/DATABASE; a unix socket is ?host=/FOLDER."
    if not separator or scheme not in schemes:
        raise InvalidInput("this is not the URL of a PostgreSQL database", hint=hint)
    if not rest or not is_plain(rest):
        raise InvalidInput("the URL of the database names none, or has a blank in it", hint=hint)
    _, _, hosts = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")
    for host in hosts.split(","):
        _, separator, port = host.rpartition("]")[2].rpartition(":")
        if separator and port and not _is_port(port):
            raise InvalidInput("the URL of the database has a port that is none", hint=hint)
    return text


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= _MAX_PORT
