"""The command line and the library with metadata on PostgreSQL, chosen by environment alone."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

import graviton
import graviton.sync
from graviton.backends.postgres.migrate import migrate
from graviton.errors import ConfigError, PermissionDenied
from graviton.testing.conformance.checks import collect
from tests.integration.cli_process import Outcome
from tests.integration.command_runs import graviton as command
from tests.postgres_schemas import drop_schema
from tests.postgres_server import server

pytestmark = pytest.mark.postgres

ON_OLD = os.environ.get("GRAVITON_TEST_PG_VERSION", "18") != "18"
PORTS = ("KeyValueStore",) if ON_OLD and os.environ.get("FAULTS_REACH") != "long" else ("KeyValueStore", "BlockIndex")
"""Whose laws `store check` tries. All of them hold on both versions in tests/conformance."""


@pytest.fixture
async def schema() -> AsyncIterator[str]:
    name = f"cli_{secrets.token_hex(8)}"
    yield name
    await drop_schema(server(), name)


def run(root: Path, schema: str, *args: str | Path, **environment: str) -> Outcome:
    return command(root, *args, **{"GRAVITON_METADATA": "postgres", "PG_JDBC_URL": server().url(schema)} | environment)


def values(done: Outcome, code: int = 0) -> list[dict[str, Any]]:
    assert done.code == code, done.err
    return done.objects


async def test_a_store_from_its_first_day(schema: str, tmp_path: Path) -> None:
    root, file = tmp_path / "store", tmp_path / "file"
    file.write_bytes(os.urandom(3_000_000))

    refused = run(root, schema, "put", file)
    assert refused.code == 1
    assert "graviton db migrate" in refused.err
    assert not root.exists(), "nothing is touched before the tables are there"

    assert values(run(root, schema, "db", "status", "--json"), 1)[-1]["current"] is False
    applied = values(run(root, schema, "db", "migrate", "--json"))
    assert applied[0]["migration"] == "V1__init.sql"
    assert values(run(root, schema, "db", "migrate", "--json")) == [applied[-1]], "a second run does nothing"
    assert values(run(root, schema, "db", "status", "--json"))[-1]["current"] is True

    [put] = values(run(root, schema, "put", file, "--json"))
    assert values(run(root, schema, "put", file, "--json"))[0]["fresh_blocks"] == 0
    copy = tmp_path / "copy"
    assert run(root, schema, "get", put["id"], "-o", copy).code == 0
    assert copy.read_bytes() == file.read_bytes()
    assert run(root, schema, "verify", "--all").code == 0
    stats = values(run(root, schema, "stats", "--json"))[0]
    assert (stats["blobs"], stats["logical_bytes"]) == (1, 3_000_000)
    checks = values(run(root, schema, "doctor", "--json"), 1)  # the server of the tests runs without fsync
    found = {check["check"]: check for check in checks if "check" in check}
    assert found["database.migrations"]["level"] == "ok"
    assert found["database"]["server_version"].split(".")[0] == server().version
    assert 0 < found["database"]["seconds"] < 1, "on this machine"
    assert found["database.durable"]["level"] == "problem"
    assert found["store"]["level"] == "ok"
    assert run(root, schema, "rm", put["id"], "--yes").code == 0
    assert run(root, schema, "ls").out == ""


async def test_second_machine_with_a_folder_of_its_own_is_refused(schema: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"some bytes")
    assert run(tmp_path / "one", schema, "db", "migrate").code == 0
    assert run(tmp_path / "one", schema, "put", file).code == 0
    refused = run(tmp_path / "two", schema, "put", file)
    assert refused.code == 1
    assert str(tmp_path / "two") in refused.err
    assert schema in refused.err
    assert not (tmp_path / "two").exists()


async def test_metadata_moves_between_kinds_by_backup_and_restore(schema: str, tmp_path: Path) -> None:
    root, file, backup = tmp_path / "store", tmp_path / "file", tmp_path / "backup"
    file.write_bytes(os.urandom(500_000))
    [put] = values(command(root, "put", file, "--json"))
    assert command(root, "meta", "backup", backup).code == 0
    assert run(root, schema, "db", "migrate").code == 0
    assert run(root, schema, "meta", "restore", backup).code == 0
    assert run(root, schema, "store", "adopt").code == 0
    assert run(root, schema, "verify", "--all").code == 0
    assert run(root, schema, "get", put["id"], "-o", tmp_path / "copy").code == 0
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()
    old = command(root, "stat", put["id"])
    assert old.code == 1, "the metadata that was left behind must not manage the same blocks"
    assert "store adopt" in old.err


async def test_old_events_are_removed_when_asked_to(schema: str, tmp_path: Path) -> None:
    root, file = tmp_path / "store", tmp_path / "file"
    assert run(root, schema, "db", "migrate").code == 0
    for content in (b"one", b"two"):
        file.write_bytes(content)
        assert run(root, schema, "put", file).code == 0
    assert values(run(root, schema, "db", "trim", "--older-than", "1h", "--json"))[0]["events"] == 0
    done = run(root, schema, "db", "trim", "--older-than", "0s")
    assert (done.code, done.out) == (0, "2 events removed\n")
    for wrong in ("soon", "-1d", "1.5h", ""):
        refused = run(root, schema, "db", "trim", "--older-than", wrong)
        assert refused.code == 2
        assert "12h, 30d" in refused.err
    embedded = command(root, "db", "trim", "--older-than", "1h")
    assert embedded.code == 1
    assert "needs no database" in embedded.err


async def test_passwords_are_nowhere(schema: str, tmp_path: Path) -> None:
    secret = "kh3-geheim"
    for address in (
        f"postgresql://u:{secret}@127.0.0.1:1/db",
        f"jdbc:postgresql://127.0.0.1:1/db?password={secret}&x=1",
    ):
        for extra in ({}, {"PG_PASSWORD": secret}):
            for args in (["ls"], ["ls", "--debug"], ["doctor"], ["db", "status", "--json"]):
                done = (
                    command(tmp_path, *args, **{"GRAVITON_METADATA": "postgres", "PG_JDBC_URL": address, **extra})
                    if "--debug" not in args
                    else run_debug(tmp_path, address, extra)
                )
                assert done.code == 1
                assert secret not in done.out + done.err


def run_debug(root: Path, address: str, extra: dict[str, str]) -> Outcome:
    """The same with a traceback, which `command` refuses."""
    import subprocess
    import sys

    environment = os.environ | {"GRAVITON_METADATA": "postgres", "PG_JDBC_URL": address, **extra}
    done = subprocess.run(
        [sys.executable, "-m", "graviton.cli.main", "--root", str(root), "ls", "--debug"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert "Traceback" in done.stderr
    return Outcome(done.returncode, done.stdout, done.stderr)


async def test_library_opens_what_the_environment_names(schema: str, tmp_path: Path) -> None:
    environment = {
        "GRAVITON_METADATA": "postgres",
        "PG_JDBC_URL": server().url(schema),
        "GRAVITON_FS_ROOT": str(tmp_path / "store"),
        "GRAVITON_KERNEL": os.environ.get("GRAVITON_KERNEL", "auto"),
    }
    async with graviton.open_from_environment(environment) as store:
        with pytest.raises(ConfigError, match="never migrated"):
            await store.put(b"some bytes")
    assert run(tmp_path / "store", schema, "db", "migrate").code == 0
    async with graviton.open_from_environment(environment) as store:
        result = await store.put(b"some bytes" * 1000)
        async with await store.get(result.key) as reader:
            assert await reader.read() == b"some bytes" * 1000


async def test_library_warns_of_names_it_does_not_know(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="GRAVITON_FROB"):
        store = graviton.open_from_environment({"GRAVITON_FROB": "1", "GRAVITON_FS_ROOT": str(tmp_path)})
    await store.aclose()


RIGHTS = Path("docs/guides/postgres.md").read_text("utf-8").split("```sql")[1].split("```")[0]
"""What the guide says a role that works needs."""


async def test_the_rights_of_the_guide_are_enough_and_no_more(schema: str, tmp_path: Path) -> None:
    role, root, file = f"r_{schema}", tmp_path / "store", tmp_path / "file"
    file.write_bytes(os.urandom(200_000))
    config = server().config(schema)
    async with await AsyncConnection.connect(config.conninfo(), autocommit=True) as connection:
        await migrate(connection, schema, "test")
        await connection.execute(f"CREATE ROLE {role} LOGIN")
        try:
            rights = RIGHTS.replace("graviton_owner", "graviton").replace("SCHEMA graviton", f"SCHEMA {schema}")
            rights = rights.replace("TO graviton", f"TO {role}").replace("FROM graviton", f"FROM {role}")
            await connection.execute(rights.replace("graviton.", f"{schema}."))
            done = run(root, schema, "put", file, "--json", PG_USERNAME=role)
            [put] = values(done)
            for args in (
                ["get", put["id"], "-o", tmp_path / "copy"],
                ["verify", "--all"],
                ["stats"],
                ["meta", "backup", tmp_path / "backup"],
                ["rm", put["id"], "--yes"],
                ["db", "status"],
                ["db", "trim", "--older-than", "0s"],
            ):
                assert run(root, schema, *args, PG_USERNAME=role).code == 0, args
            async with await AsyncConnection.connect(config.conninfo(), user=role, autocommit=True) as working:
                for forbidden in (
                    "DELETE FROM migrations",
                    "DROP TABLE blobs",
                    "DELETE FROM domains",
                    "CREATE TABLE x ()",
                ):
                    with pytest.raises(Exception, match=r"permission denied|must be owner"):
                        await working.execute(forbidden)
            await connection.execute(f"REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} FROM {role}")
            refused = run(root, schema, "put", file, "--json", PG_USERNAME=role)
            assert refused.code == 1
            assert PermissionDenied.code in refused.out + refused.err
        finally:
            await connection.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


async def test_one_store_from_several_loops_and_threads(schema: str, tmp_path: Path) -> None:
    assert run(tmp_path / "store", schema, "db", "migrate").code == 0
    environment = {
        "GRAVITON_METADATA": "postgres",
        "PG_JDBC_URL": server().url(schema),
        "GRAVITON_FS_ROOT": str(tmp_path / "store"),
    }
    with graviton.sync.open_from_environment(environment) as store:
        key = store.put(b"one").key
        assert store.get(key).read() == b"one"
    async with graviton.open_from_environment(environment) as again:
        assert [stat.key async for stat in again.list()] == [key]
        assert await collect(again.list()) != []


async def test_store_check_tries_the_laws_on_the_database(schema: str, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert run(tmp_path / "store", schema, "db", "migrate").code == 0
    for port in PORTS:
        done = values(run(tmp_path / "store", schema, "store", "check", "--port", port, "--json"))
        assert done[-1]["clean"] is True
        assert done[-1]["kept"] > 15
    async with await AsyncConnection.connect(server().config(schema).conninfo()) as connection:
        found = await connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'graviton_check_%'")
        assert await found.fetchall() == []
