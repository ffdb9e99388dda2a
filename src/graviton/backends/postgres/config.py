"""`PgConfig`: which database, as whom, and how much of it; and the forms in which people write that down.

An address is what PG_JDBC_URL holds: `postgresql://…` with the options of libpq, or `jdbc:postgresql://…` with those of
the JDBC driver that have a counterpart. Options are kept; one that means nothing here is refused, not dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from graviton.core.secret import Secret
from graviton.errors import ConfigError
from graviton.ports.events import EventKind

__all__ = ["DEFAULT_EVENTS", "DEFAULT_SCHEMA", "OUTBOX_EVENTS", "PgConfig", "parse_address"]

DEFAULT_SCHEMA = "graviton"
"""Schema of all tables unless the address names another (`currentSchema`)."""

DEFAULT_EVENTS = frozenset({EventKind.BLOB_COMMITTED, EventKind.BLOB_DELETED, EventKind.BLOCK_DAMAGED})
"""Events that are written to the outbox unless told otherwise: few beside what they tell of."""

OUTBOX_EVENTS = DEFAULT_EVENTS | {EventKind.BLOCK_STORED}
"""Events that can be: changes of the database. The rest are no business of a transaction here."""

_MAX_PORT = 65_535

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)

_JDBC_NAMES = {
    "ApplicationName": "application_name",
    "connectTimeout": "connect_timeout",
    "loginTimeout": "connect_timeout",
    "sslmode": "sslmode",
    "sslrootcert": "sslrootcert",
    "sslcert": "sslcert",
    "sslkey": "sslkey",
    "options": "options",
    "user": "user",
    "password": "password",
    "sslpassword": "sslpassword",
    "gssEncMode": "gssencmode",
    "channelBinding": "channel_binding",
    "requireAuth": "require_auth",
    "kerberosServerName": "krbsrvname",
}
"""Options of the JDBC driver with a counterpart of the same meaning in libpq."""

_PLANNER = {
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
"""For connections that run our statements over and over. Each of them looks up a few rows by an index, and its text
leaves no other way; planning it anew costs as much as running it, and a plan made while a table was small must not be
another one. docs/decisions/0021-postgres-plans.md"""

_OURS = ("currentSchema", "maxConnections")
"""Options of an address that libpq does not know, named as the JDBC driver names them."""

_SECRETS = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})
"""Options of libpq that nobody may read: with a SCRAM key one logs in as with the password."""

_JDBC_TARGETS = {
    "any": "any",
    "primary": "primary",
    "master": "primary",
    "secondary": "standby",
    "slave": "standby",
    "preferSecondary": "prefer-standby",
    "preferSlave": "prefer-standby",
}

_JDBC_WITHOUT_EFFECT = frozenset({"tcpKeepAlive", "reWriteBatchedInserts", "prepareThreshold", "binaryTransfer"})
"""Options that tune the JDBC driver itself and change nothing that anybody can see."""


@dataclass(frozen=True, slots=True)
class PgConfig:
    """Settings of one database; a value out of bounds raises ConfigError."""

    options: Mapping[str, str]
    """Parameters of libpq, without secrets."""
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """Those that are secret: the password of the user, of a key file."""
    schema: str = DEFAULT_SCHEMA
    """Where the tables are."""
    max_connections: int = 8
    """Connections of one process for everything but `KeyValueStore.transact`, 1 to 1,000."""
    max_transact_connections: int = 4
    """Connections, and threads, for functions given to `transact` and `read`, 1 to 100."""
    statement_timeout_seconds: float = 60.0
    """After which the server stops a statement: ours take milliseconds, so what takes longer waits for somebody."""
    idle_in_transaction_seconds: float = 30.0
    """After which a client that holds locks and says nothing is ended, by the server or by who waits for it
    (`_waiting`): one that is frozen blocks nobody for much longer."""
    retry_seconds: float = 30.0
    """For how long an operation is tried again in all, 0 to 3,600: what a server takes to restart."""
    events: frozenset[EventKind] = DEFAULT_EVENTS
    """What is written to the outbox. `block.stored` is another row for every block that is stored, as many as a put
    writes without it, and lets the confirmation of each batch of blocks wait for the disk."""
    application_name: str = "graviton"
    """Shown in pg_stat_activity unless the address says another."""
    where: str = field(init=False, default="")
    """The database for people, without secrets: postgresql://HOST:PORT/DATABASE."""

    def __post_init__(self) -> None:
        if not _SCHEMA.fullmatch(self.schema):
            raise ConfigError(
                f"a schema name is a-z, 0-9 and _, not {self.schema[:80]!r}", operation="configure", subject="schema"
            )
        if not OUTBOX_EVENTS.issuperset(self.events):
            raise ConfigError(
                f"events of the outbox are {', '.join(sorted(OUTBOX_EVENTS))}, not {', '.join(sorted(self.events))}",
                operation="configure",
                subject="events",
            )
        _bounded("max_connections", self.max_connections, 1, 1000)
        _bounded("max_transact_connections", self.max_transact_connections, 1, 100)
        _bounded("statement_timeout_seconds", self.statement_timeout_seconds, 0.001, 86_400)
        _bounded("idle_in_transaction_seconds", self.idle_in_transaction_seconds, 0.001, 86_400)
        _bounded("retry_seconds", self.retry_seconds, 0, 3600)
        object.__setattr__(self, "where", _where(self.options))

    def conninfo(self, *, lookups_only: bool = False) -> str:
        """What libpq is given. It holds the secrets: never for messages. `lookups_only` is for statements that each
        look up a few rows by an index."""
        from psycopg.conninfo import make_conninfo

        made = {"application_name": self.application_name, "connect_timeout": "10", **self.options}
        session = {
            "search_path": self.schema,
            "statement_timeout": f"{self.statement_timeout_seconds * 1000:.0f}ms",
            "idle_in_transaction_session_timeout": f"{self.idle_in_transaction_seconds * 1000:.0f}ms",
            **(_PLANNER if lookups_only else {}),
        }
        ours = " ".join(f"-c {name}={value}" for name, value in session.items())
        made["options"] = f"{ours} {made.get('options', '')}".strip()  # the last one counts: theirs
        return make_conninfo("", **made, **{name: secret.reveal() for name, secret in self.secrets.items()})


def parse_address(
    text: str, user: str = "", password: str = "", **settings: int | float | str | frozenset[EventKind]
) -> PgConfig:
    """The configuration that an address gives; `user` and `password` take the place of those in it. Raises ConfigError,
    which quotes nothing of the address but names of options: it may hold a password, also in the wrong place."""
    is_jdbc = text.startswith("jdbc:")
    options = _options(text.removeprefix("jdbc:"), is_jdbc)
    schema = options.pop("currentSchema", DEFAULT_SCHEMA)
    if "maxConnections" in options:
        settings = {"max_connections": _whole(options.pop("maxConnections"))} | settings
    if user:
        options["user"] = user
    if password:
        options["password"] = password
    secrets = {name: Secret(options.pop(name)) for name in _SECRETS & options.keys()}
    return PgConfig(options, secrets, schema, **settings)  # type: ignore[arg-type]  # checked by PgConfig itself


def _options(url: str, is_jdbc: bool) -> dict[str, str]:
    """Parameters of libpq, and `_OURS`."""
    base, _, query = url.partition("?")
    authority, _, database = base.partition("://")[2].partition("/")
    if "@" in database or authority.count("@") > 1:
        raise _wrong("an @ is in it that parts nothing; write %40 for @, %2F for / in a password")
    pairs = dict(_pair(pair) for pair in query.split("&") if pair)
    own = _translated(pairs, query) if is_jdbc else pairs
    ours = {name: own.pop(name) for name in _OURS if name in own}
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import Conninfo

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    for name in own:
        if name not in known:
            raise _meaningless(name, query)
    try:
        parsed = conninfo_to_dict(base, **own)
    except ProgrammingError as error:
        raise _wrong(_without_quotes(str(error))) from None
    for port in str(parsed.get("port") or "").split(","):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= _MAX_PORT):
            raise _wrong("it has a port that is none")
    return {name: str(value) for name, value in parsed.items() if value is not None} | ours


def _translated(pairs: Mapping[str, str], query: str) -> dict[str, str]:
    """Options of the JDBC driver as those of libpq; `query` is what they were read from."""
    made: dict[str, str] = {}
    for name, value in pairs.items():
        if name in _JDBC_NAMES:
            made[_JDBC_NAMES[name]] = value
        elif name in _OURS:
            made[name] = value
        elif name == "ssl":
            made.setdefault("sslmode", "verify-full" if value in ("", "true") else "prefer")
        elif name == "targetServerType" and value in _JDBC_TARGETS:
            made["target_session_attrs"] = _JDBC_TARGETS[value]
        elif name == "socketFactoryArg":
            made["host"] = re.sub(r"/\.s\.PGSQL\.[0-9]+$", "", value)
        elif name in ("host", "port"):
            made[name] = value
        elif name != "socketFactory" and name not in _JDBC_WITHOUT_EFFECT:
            raise _meaningless(name, query)
    return made


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return unquote(name), unquote(value)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise _wrong("maxConnections is not a whole number")
    return int(text)


def _without_quotes(message: str) -> str:
    """A message of libpq without what it quotes of the address."""
    return re.sub(r'"[^"]*"', "…", message.strip().splitlines()[0])


def _meaningless(name: str, query: str) -> ConfigError:
    if "@" in query:  # then it may be the end of a password with a question mark in it
        return _wrong("it has an option that means nothing here; write %3F for ? in a password")
    return _wrong(f"it has the option {name[:40]!r}, which means nothing here")


def _wrong(what: str) -> ConfigError:
    return ConfigError(
        f"the address of the PostgreSQL database cannot be used: {what}",
        operation="configure",
        subject="PG_JDBC_URL",
        hint="Write postgresql://HOST:PORT/DATABASE or jdbc:postgresql://HOST:PORT/DATABASE; a unix socket is"
        " postgresql:///DATABASE?host=/FOLDER. docs/guides/postgres.md lists the options.",
    )


def _where(options: Mapping[str, str]) -> str:
    host = options.get("host") or options.get("hostaddr") or "localhost"
    port = options.get("port")
    database = options.get("dbname") or options.get("user") or ""
    return f"postgresql://{host}{f':{port}' if port else ''}/{database}"


def _bounded(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {low} to {high}, not {value}", operation="configure", subject=name)
