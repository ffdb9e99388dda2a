"""Addresses of databases: what is kept, what is refused, what is never shown."""

from __future__ import annotations

import pickle

import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from graviton.assembly.settings import settings_from
from graviton.backends.postgres.config import OUTBOX_EVENTS, PgConfig, parse_address
from graviton.core.secret import Secret
from graviton.errors import ConfigError
from graviton.ports.events import EventKind

SECRET = "kh3-geheim"
_ODD_NAMES = {"host": "h", "user": "u@x", "dbname": "d@b", "application_name": "a@b"}


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("postgresql://h:5433/db", {"host": "h", "port": "5433", "dbname": "db"}),
        ("postgres://u@h/db", {"host": "h", "user": "u", "dbname": "db"}),
        ("postgresql://u%40x@h/d%40b?application_name=a@b", _ODD_NAMES),
        ("jdbc:postgresql://h/db", {"host": "h", "dbname": "db"}),
        ("jdbc:postgresql://h1:1,h2:2/db", {"host": "h1,h2", "port": "1,2", "dbname": "db"}),
        ("postgresql:///db?host=/run/pg", {"host": "/run/pg", "dbname": "db"}),
        ("postgresql://%2Frun%2Fpg/db", {"host": "/run/pg", "dbname": "db"}),
        ("jdbc:postgresql:///db?host=/run/pg", {"host": "/run/pg", "dbname": "db"}),
        (
            "jdbc:postgresql://localhost/db?socketFactory=org.newsclub.X&socketFactoryArg=/run/pg/.s.PGSQL.5432",
            {"host": "/run/pg", "dbname": "db"},
        ),
        (
            "postgresql://h/db?sslmode=verify-full&target_session_attrs=read-write&keepalives_idle=30",
            {
                "host": "h",
                "dbname": "db",
                "sslmode": "verify-full",
                "target_session_attrs": "read-write",
                "keepalives_idle": "30",
            },
        ),
        ("jdbc:postgresql://h/db?ssl=true", {"host": "h", "dbname": "db", "sslmode": "verify-full"}),
        (
            "jdbc:postgresql://h/db?ApplicationName=my%20app&connectTimeout=3&targetServerType=primary",
            {
                "host": "h",
                "dbname": "db",
                "application_name": "my app",
                "connect_timeout": "3",
                "target_session_attrs": "primary",
            },
        ),
        ("jdbc:postgresql://h/db?prepareThreshold=3&tcpKeepAlive=true", {"host": "h", "dbname": "db"}),
    ],
)
def test_options_of_an_address_are_kept(address: str, options: dict[str, str]) -> None:
    assert dict(parse_address(address).options) == options


def test_events_of_the_outbox_are_changes_of_the_database() -> None:
    assert EventKind.BLOCK_STORED not in PgConfig({}).events
    assert PgConfig({}, events=frozenset()).events == frozenset()
    assert parse_address("postgresql://h/db", events=OUTBOX_EVENTS).events == OUTBOX_EVENTS
    with pytest.raises(ConfigError, match=r"gc\.finished") as caught:
        PgConfig({}, events=frozenset({EventKind.GC_FINISHED}))
    assert caught.value.subject == "events"


def test_schema_is_its_own_or_the_default_one() -> None:
    assert parse_address("postgresql://h/db").schema == "graviton"
    for address in ("postgresql://h/db?currentSchema=mine", "jdbc:postgresql://h/db?currentSchema=mine"):
        config = parse_address(address)
        assert config.schema == "mine"
        assert "search_path=mine" in conninfo_to_dict(config.conninfo())["options"]


def test_size_of_the_pool_is_in_the_address_unless_given() -> None:
    for scheme in ("postgresql", "jdbc:postgresql"):
        address = f"{scheme}://h/db?maxConnections=16"
        assert parse_address(address).max_connections == 16
        assert "maxConnections" not in parse_address(address).conninfo()
        assert parse_address(address, max_connections=3).max_connections == 3
    with pytest.raises(ConfigError, match="max_connections is 1 to 1000"):
        parse_address("postgresql://h/db?maxConnections=0")


def test_user_and_password_given_beside_the_address_win() -> None:
    config = parse_address("postgresql://a:b@h/db", "me", SECRET)
    found = conninfo_to_dict(config.conninfo())
    assert (found["user"], found["password"]) == ("me", SECRET)


def test_their_own_session_options_come_last_and_win() -> None:
    config = parse_address("postgresql://h/db?options=-c%20statement_timeout%3D5s")
    assert conninfo_to_dict(config.conninfo())["options"].endswith("-c statement_timeout=5s")


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://u:{SECRET}@h/db?sslmod=require",
        f"jdbc:postgresql://h/db?user=u&password={SECRET}&frobnicate=1",
        f"postgresql://u:{SECRET} x@h/db",
        f"postgresql://u:{SECRET}@h:port/db?sslmode",
        f"postgresql://u:{SECRET}%zz@h/db",
        f"jdbc:postgresql://h/db?targetServerType={SECRET}",
        f"postgresql://h/db?maxConnections={SECRET}",
        # Passwords that were not escaped: what follows their first @, / or ? looks like another part.
        f"postgresql://u:p@{SECRET}@h/db",
        f"postgresql://u:1234/{SECRET}@h/db",
        f"postgresql://u:p/{SECRET}@h/db",
        f"postgresql://u:p?{SECRET}@h/db",
        f"postgresql://u:p?{SECRET}=1@h/db",
        f"jdbc:postgresql://u:1?{SECRET}=1@h/db",
    ],
)
def test_wrong_address_is_refused_without_quoting_it(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address(address)
    told = f"{caught.value} {caught.value.subject} {caught.value.hint} {caught.value.__cause__}"
    assert SECRET not in told
    assert caught.value.subject == "PG_JDBC_URL"


@pytest.mark.parametrize(
    "address",
    [f"postgresql://u:{SECRET}@h/db", f"jdbc:postgresql://h/db?password={SECRET}&sslpassword={SECRET}"],
)
def test_passwords_are_never_shown(address: str) -> None:
    config = parse_address(address)
    for text in (repr(config), str(config), f"{config}", config.where, repr(config.secrets), str(config.options)):
        assert SECRET not in text
    assert SECRET in config.conninfo()
    with pytest.raises(TypeError):
        pickle.dumps(config.secrets["password"])


SECRET_OPTIONS = [
    option.keyword.decode()
    for option in Conninfo.get_defaults()
    # libpq wants stars for the former. The latter, from version 18 on, do for a password, but it calls them debugging.
    if option.dispchar == b"*" or option.keyword.startswith(b"scram_")
]


@pytest.mark.parametrize("name", SECRET_OPTIONS)
def test_no_secret_option_of_libpq_is_shown(name: str) -> None:
    config = parse_address(f"postgresql://u@h/db?{name}={SECRET}")
    assert SECRET not in repr(config)
    assert conninfo_to_dict(config.conninfo())[name] == SECRET


def test_where_names_the_database_for_people() -> None:
    assert parse_address("postgresql://u:p@h:5433/db?sslmode=disable").where == "postgresql://h:5433/db"
    assert parse_address("postgresql:///db?host=/run/pg").where == "postgresql:///run/pg/db"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_connections", 0),
        ("max_transact_connections", 101),
        ("retry_seconds", -1),
        ("statement_timeout_seconds", 0),
    ],
)
def test_values_out_of_bounds_are_refused(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=name):
        parse_address("postgresql://h/db", **{name: value})


@pytest.mark.parametrize("schema", ["", "Drop", "a;b", "a b", "1a", "x" * 64, 'a"b'])
def test_schema_that_would_need_quotes_is_refused(schema: str) -> None:
    with pytest.raises(ConfigError, match="schema"):
        PgConfig({}, schema=schema)


def test_secret_shows_itself_to_nobody() -> None:
    secret = Secret("text")
    assert {repr(secret), str(secret), f"{secret}", f"{secret:>10}"} == {"Secret('***')", "***"}
    assert secret == Secret("text")
    assert secret != Secret("other")
    assert secret != "text"
    assert secret.reveal() == "text"


# The environment.

ADDRESS = "postgresql://h/db"


def test_environment_gives_the_database() -> None:
    settings = settings_from(
        {"GRAVITON_METADATA": "postgres", "PG_JDBC_URL": ADDRESS, "PG_USERNAME": "me", "PG_PASSWORD": SECRET}
    )
    assert settings.postgres is not None
    assert settings.postgres.options["user"] == "me"
    assert settings.postgres.secrets["password"].reveal() == SECRET
    assert SECRET not in repr(settings)


def test_database_is_ignored_unless_the_metadata_is_there() -> None:
    assert settings_from({"PG_JDBC_URL": ADDRESS, "PG_PASSWORD": SECRET}).postgres is None


def test_missing_address_stops_the_start_and_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        settings_from({"GRAVITON_METADATA": "postgres"})
    assert caught.value.subject == "PG_JDBC_URL"
