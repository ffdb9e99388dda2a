"""`graviton meta copy` between every two kinds of metadata, with commands and beneath them."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import graviton
from graviton.assembly.moving import metadata_at, moving
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.errors import ConfigError, InvalidInput, PermissionDenied, Retired, Unavailable
from graviton.metadata.audit import audit
from graviton.metadata.copy_handover import Handover
from graviton.testing.conformance.checks import collect
from graviton.testing.conformance.metadata_values import Upload, block_keys
from tests.integration.cli_process import Cli, children_env
from tests.integration.filled_metadata import fill, fill_others, others
from tests.integration.metadata_kinds import PAIRS, Opened, Spot, opened, spot, spot_for_commands
from tests.postgres_server import server

pytestmark = [pytest.mark.postgres, pytest.mark.filterwarnings("always:the metadata at:UserWarning")]

Change = Callable[[], Awaitable[Any]]

PAIR = pytest.mark.parametrize(("kind", "other"), PAIRS)


async def told(one: Opened) -> list[Any]:
    """Everything that the ports tell of the contents, whatever they lie in."""
    metadata, found = one.metadata, []
    for domain in ("", "other", "ä-domain"):
        records = await metadata.repo.list(domain=domain)
        found.append([(record.key, record.owner, record.attributes, record.created_at_ns) for record in records])
        found += [[page async for page in metadata.repo.pages(record, domain=domain)] for record in records]
        blocks = await collect(metadata.index.list(domain))
        found.append(blocks)
        found += [sorted(await collect(metadata.index.references(block.key, domain))) for block in blocks]
        found.append(await metadata.repo.totals(domain))
    found.append(await collect(metadata.index.notes()))
    return [*found, await others(one.replicas, one.ranges)]


async def changes(one: Opened) -> list[Change]:
    """A change through each port."""
    metadata, key = one.metadata, Upload.of(block_keys(5, "shared"), "again").key
    [record] = await metadata.index.records(block_keys(1, "shared"))
    assert record is not None
    [new] = block_keys(1, "new")
    return [
        lambda: metadata.index.open([[new]]),
        lambda: metadata.index.mark_damaged(record.key, record.generation),
        lambda: metadata.repo.delete(key, holder="one"),
        lambda: one.replicas.update(new, [Locator("s3", "bucket", "x")]),
        lambda: one.ranges.merge(Locator("upload", "bucket", "0"), Span(500, 501)),
        lambda: one.kv.put("mine", b"key", b"value"),
        lambda: one.kv.delete("store", b"block_prefix"),
    ]


def collections(one: Opened) -> list[Change]:
    """What a collector does, which perhaps finds nothing to be done."""
    index = one.metadata.index
    return [lambda: collect(index.release(0.0)), lambda: index.condemn(secrets.token_hex(16), 6)]


@PAIR
async def test_every_port_tells_the_same_and_takes_no_change_where_it_was(
    kind: str, other: str, tmp_path: Path
) -> None:
    root = tmp_path / "store"
    async with spot(kind, tmp_path) as source, spot(other, tmp_path) as target:
        async with Store(source.settings(root)) as store:
            await store.init()
        async with AsyncExitStack() as program:
            before = await program.enter_async_context(opened(source, root))
            await fill(before.metadata)
            await fill_others(before.replicas, before.ranges)
            session = await before.metadata.session(block_keys(3, "mine"))
            wanted = await told(before)
            if not before.kv.capabilities.multi_process:  # else it has the source open all the time
                await program.aclose()
            async with moving(source.settings(root), target.settings(root)) as copy:
                result = await copy.run()
            assert result.rows > 300
            if not before.kv.capabilities.multi_process:
                before = await program.enter_async_context(opened(source, root))
            for change in await changes(before):
                with pytest.raises(Retired, match="was moved to"):
                    await change()
            for change in collections(before):
                with suppress(Retired):
                    await change()
            with pytest.raises(Retired):
                await before.metadata.index.confirm(session, block_keys(3, "mine"))
            assert await told(before) == wanted
        async with opened(target, root) as after:
            assert await told(after) == wanted
            assert [finding async for finding in audit(after.kv)] == []
            with pytest.raises(graviton.Conflict):
                await after.metadata.index.confirm(session, block_keys(3, "mine"))
            for change in [*await changes(after), *collections(after)]:
                await change()


@PAIR
def test_a_store_moves_and_comes_back(
    kind: str, other: str, tmp_path: Path, run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with spot_for_commands(kind, tmp_path) as source, spot_for_commands(other, tmp_path) as target:
        _there_and_back(source, target, tmp_path, run, monkeypatch)


def _there_and_back(source: Spot, target: Spot, tmp_path: Path, run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def use(place: Spot) -> None:
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)

    use(source)
    (tmp_path / "one").write_bytes(one := os.urandom(300_000))
    (tmp_path / "two").write_bytes(b"two")
    [blob] = run("put", "one", "--chunker", "fixed-v1:64KiB").ids
    [gone] = run("put", tmp_path / "two").ids
    assert run("rm", "--yes", gone).code == 0
    assert run("meta", "status", "--json").objects[0]["state"] == "in_use"
    listed = run("ls").out
    done = run("meta", "copy", "--to", target.place, "--json")
    assert done.code == 0, done.err
    [result] = done.objects
    assert result["rows"] > 20
    assert len(result["digest"]) == 64

    status = run("meta", "status", "--json").objects[0]
    assert (status["state"], status["target"]) == ("moved", result["target"])
    refused = run("put", tmp_path / "two", "--json")
    assert (refused.code, refused.objects[0]["error"]) == (1, "retired")
    assert result["target"] in refused.objects[0]["message"]
    assert "GRAVITON_METADATA=" in refused.objects[0]["hint"]
    assert run("rm", "--yes", blob).code == 1
    assert run("store", "adopt").code == 1
    got = run("get", blob, "-o", tmp_path / "copy")
    assert (got.code, (tmp_path / "copy").read_bytes()) == (0, one)
    assert "was moved to" in got.err
    assert run("ls").out == listed
    assert [check["level"] for check in run("doctor", "--json").objects if check.get("check") == "store"] == ["warning"]
    assert run("meta", "backup", tmp_path / "backup").code == 0

    use(target)
    assert run("ls").out == listed
    assert run("verify", "--all").code == 0
    assert run("get", blob, "-o", tmp_path / "copy2").err == ""
    assert run("put", tmp_path / "two").ids == [gone]
    assert run("meta", "copy", "--to", source.place).code == 1
    back = run("meta", "copy", "--to", source.place, "--replace-target", "-v")
    assert back.code == 0, back.err
    assert "verifying the target" in back.err
    assert run("put", tmp_path / "one", "--json").objects[0]["error"] == "retired"

    use(source)
    assert run("verify", "--all").code == 0
    assert sorted(line[:70] for line in run("ls").out.splitlines()) == sorted([blob[:70], gone[:70]])
    assert run("rm", "--yes", gone).code == 0


def test_places_are_what_people_write_and_never_shown(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"one")
    assert run("put", tmp_path / "one").code == 0
    for place in ("meta.sqlite", "sqlite:", "mysql://u:secret@host/db", "http:x", ""):
        wrong = run("meta", "copy", "--to", place, "--json")
        assert (wrong.code, wrong.objects[0]["error"]) == (2, "invalid_input"), place
        assert "secret" not in wrong.out + wrong.err
        assert "sqlite:PATH" in wrong.objects[0]["hint"]
    wrong = run("meta", "copy", "--to", "postgresql://u:secret@host:x/db")
    assert wrong.code == 1
    assert "secret" not in wrong.err
    blocks = run("meta", "copy", "--to", f"sqlite:{run.root}/cas/blocks/meta")
    assert "belongs to the store" in blocks.err
    itself = run("meta", "copy", "--to", f"sqlite:{run.root}/meta.sqlite")
    assert "is the source itself" in itself.err
    nothing = run("--root", tmp_path / "none", "meta", "copy", "--to", f"sqlite:{tmp_path}/new")
    assert nothing.code == 1
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "new").exists()
    assert run("meta", "copy", "--to", f"sqlite:{tmp_path}/new", "--abort").code == 1
    assert not (tmp_path / "new").exists()
    assert run("--root", tmp_path / "none", "meta", "status", "--json").objects[0]["state"] == "absent"
    for address, user, names in (
        ("postgresql://me@h/d", "me", {"PG_PASSWORD": "yours"}),
        ("postgresql://you@h/d", "you", {"PG_USERNAME": "you", "PG_PASSWORD": "yours"}),
        ("jdbc:postgresql://h/d?user=me", "me", {"PG_PASSWORD": "yours"}),
    ):
        half = metadata_at(Settings(), address, names).postgres
        assert half is not None
        assert (half.options["user"], half.secrets["password"].reveal()) == (user, "yours")
    other = metadata_at(Settings(), "postgresql://me@h/d", {"PG_USERNAME": "you", "PG_PASSWORD": "yours"}).postgres
    assert other is not None
    assert (other.options["user"], dict(other.secrets)) == ("me", {})
    own = metadata_at(Settings(), "postgresql://me:mine@h/d", {"PG_USERNAME": "you", "PG_PASSWORD": "yours"}).postgres
    given = metadata_at(Settings(), "postgresql://h/d", {"PG_USERNAME": "you", "PG_PASSWORD": "yours"}).postgres
    assert own is not None
    assert given is not None
    assert (own.options["user"], own.secrets["password"].reveal()) == ("me", "mine")
    assert (given.options["user"], given.secrets["password"].reveal()) == ("you", "yours")
    with pytest.raises(ConfigError):
        metadata_at(Settings(), "postgresql://h/d?nonsense=1", {})
    with pytest.raises(InvalidInput):
        metadata_at(Settings(), "mysql", {})


def test_a_kind_alone_is_where_the_store_has_it(tmp_path: Path) -> None:
    here = Settings(fs_root=tmp_path, meta_path=tmp_path / "elsewhere")
    assert metadata_at(here, "sqlite", {}) == here, "its own"
    other = metadata_at(here, "rocksdb", {"GRAVITON_META_PATH": "/never", "PG_PASSWORD": "x"})
    assert (other.metadata, other.metadata_path) == ("rocksdb", tmp_path / "meta.rocks")
    assert metadata_at(other, "sqlite", {}).metadata_path == tmp_path / "meta.sqlite"
    database = metadata_at(here, "postgres", {"PG_JDBC_URL": "postgresql://h/d", "PG_USERNAME": "me"}).postgres
    assert database is not None
    assert database.options["user"] == "me"
    with pytest.raises(ConfigError, match="PG_JDBC_URL"):
        metadata_at(here, "postgres", {})


def test_a_copy_to_a_kind_alone(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"some bytes")
    assert run("put", tmp_path / "file").code == 0
    assert run("meta", "copy", "--to", "rocksdb").code == 0
    assert (run.root / "meta.rocks").is_dir()
    assert run("put", tmp_path / "file", "--chunker", "fixed-v1:64KiB").code == 1, "it was moved"
    assert run("meta", "copy", "--from", "rocksdb", "--to", "sqlite", "--replace-target").code == 0
    assert run("verify", "--all").code == 0


_PUTTER = """
import asyncio, sys, os, graviton

async def main(root, meta):
    async with graviton.open(root, metadata=meta) as store:
        while True:
            print((await store.put(os.urandom(2000))).id, flush=True)

try:
    asyncio.run(main(*sys.argv[1:]))
except graviton.GravitonError as error:
    print("end", error.code, flush=True)
"""


@pytest.mark.parametrize(("kind", "other"), [("sqlite", "postgres"), ("postgres", "sqlite")])
async def test_puts_of_other_processes_are_in_the_target_or_refused(kind: str, other: str, tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with spot(kind, tmp_path) as source, spot(other, tmp_path) as target:
        async with Store(source.settings(root)) as store:
            await store.put(b"first")
        address = source.place.removeprefix("sqlite:")
        putters = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _PUTTER, str(root), address), stdout=subprocess.PIPE, env=children_env()
            )
            for _ in range(2)
        ]
        for putter in putters:
            assert putter.stdout is not None
            await putter.stdout.readline()
        async with moving(source.settings(root), target.settings(root)) as copy:
            await copy.run()
        said = [line for putter in putters for line in (await putter.communicate())[0].decode().splitlines()]
        assert {line for line in said if line.startswith("end")} <= {"end retired", "end unavailable"}
        acknowledged = {line for line in said if not line.startswith("end")}
        async with Store(target.settings(root)) as store:
            there = {stat.key.text async for stat in store.list()}
            assert acknowledged <= there
            for text in sorted(acknowledged)[:20]:
                async with await store.get(graviton.BlobKey.parse(text)) as reader:
                    assert len(await reader.read()) == 2000


async def test_closing_a_database_waits_for_whoever_writes_and_not_for_readers(tmp_path: Path) -> None:
    from graviton.backends.postgres.rows._gate import CLOSED_TABLES

    root = tmp_path / "store"
    async with spot("postgres", tmp_path) as source, opened(source, root) as one:
        database = one.kv.database  # type: ignore[attr-defined]
        rows = await database.fetch("test", "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        apart = {"migrations", "events", "event_stream", "objects", "object_contents", "object_parts"}
        assert {name for (name,) in rows} == {*CLOSED_TABLES, *apart}
        async with await database.connect() as writer, await database.connect() as reader:
            await reader.execute("BEGIN")
            await reader.execute("SELECT count(*) FROM blobs, owners, kv")
            await writer.execute("BEGIN")
            await writer.execute("INSERT INTO kv VALUES ('mine', 'key', 'value')")
            closing = asyncio.ensure_future(one.kv.change_gate(_close))
            await asyncio.sleep(0.3)
            assert not closing.done()
            await writer.execute("COMMIT")
            await asyncio.wait_for(closing, 10)
            assert await one.kv.get("mine", b"key") == b"value"
        with pytest.raises(Unavailable, match="is being moved to nowhere"):
            await one.kv.put("mine", b"key", b"other")
        await one.kv.past_gate.put("mine", b"key", b"ours")
        with pytest.raises(Unavailable):
            await one.kv.put("mine", b"key", b"other")
        await one.kv.change_gate(lambda tx: tx.delete("store", b"read_only"))
        await one.kv.put("mine", b"key", b"other")


def _close(tx: Any) -> None:
    from graviton.metadata.read_only import READ_ONLY_KEY, ReadOnly, ReadOnlyState

    row = ReadOnly(ReadOnlyState.MOVING, "nowhere", "X='1'; and \"2\"", "a" * 32, "b" * 32, 1)
    tx.put("store", READ_ONLY_KEY, row.encode())


async def test_a_role_that_does_not_own_the_tables_is_told_before_anything_is_done(tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with spot("postgres", tmp_path) as source, spot("sqlite", tmp_path) as target:
        async with Store(source.settings(root)) as store:
            await store.put(b"some bytes")
        settings = source.settings(root)
        assert settings.postgres is not None
        schema, role = settings.postgres.schema, f"worker_{secrets.token_hex(4)}"
        async with opened(source, root) as one:
            database = one.kv.database  # type: ignore[attr-defined]
            async with await database.connect() as owner:
                await owner.execute(f"CREATE ROLE {role} LOGIN")
                await owner.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
                await owner.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}")
        address = server().url(schema).replace("postgresql://graviton@", f"postgresql://{role}@")
        as_worker = metadata_at(settings, address, {})
        async with moving(as_worker, target.settings(root)) as copy:
            with pytest.raises(PermissionDenied, match="only the role that owns the tables"):
                await copy.run()
        async with Store(as_worker) as store:
            await store.put(b"other bytes")
        async with moving(settings, target.settings(root)) as copy:
            await copy.run()
        async with Store(as_worker) as store:
            with pytest.warns(UserWarning, match="was moved to"), pytest.raises(Retired):
                await store.put(b"more bytes")
        async with opened(source, root) as one, await one.kv.database.connect() as owner:  # type: ignore[attr-defined]
            await owner.execute(f"DROP OWNED BY {role}")
            await owner.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("end", ["-journal", "-wal", "-shm"])
def test_what_sqlite_keeps_beside_a_database_is_no_place_for_another(
    end: str, run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would take it for its own, and remove it."""
    (tmp_path / "one").write_bytes(b"one")
    [blob] = run("put", tmp_path / "one").ids
    beside = f"{run.root}/meta.sqlite{end}"
    assert "belongs to the store" in run("meta", "copy", "--to", f"sqlite:{beside}").err
    assert run("meta", "copy", "--to", f"sqlite:{tmp_path}/x{end}").code == 0
    monkeypatch.setenv("GRAVITON_META_PATH", f"{tmp_path}/x{end}")
    assert "belongs to the store" in run("meta", "copy", "--to", f"sqlite:{tmp_path}/x").err
    assert run("verify", "--all").code == 0
    assert run("get", blob, "-o", tmp_path / "copy").code == 0


def test_an_interrupted_copy_says_what_is_and_goes_on(tmp_path: Path) -> None:
    """SIGINT at several moments of a copy of some thousand blobs."""
    root = tmp_path / "store"

    async def make() -> None:
        async with graviton.open(root) as store:
            async for _ in store.put_many([b"%d" % number for number in range(3000)]):
                pass

    asyncio.run(make())
    command = [
        sys.executable,
        "-m",
        "graviton.cli.main",
        "--root",
        str(root),
        "meta",
        "copy",
        "--to",
        f"sqlite:{tmp_path}/new",
    ]
    seen = set()
    for seconds in (0.5, 0.7, 0.9):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=children_env())
        try:
            _, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        text = err.decode()
        seen.add(process.returncode)
        assert process.returncode in (0, 130), text
        if process.returncode == 0 or "the copy is complete" in text:
            break
        assert "in use as before" in text or len(text.splitlines()) == 1, text
        asyncio.run(_put_one(root, None))
    done = subprocess.run(command, capture_output=True, env=children_env(), check=False)
    assert done.returncode == 0, done.stderr
    assert asyncio.run(_count(root, tmp_path / "new")) >= 3000
    asyncio.run(_put_one(root, tmp_path / "new"))
    assert 130 in seen


async def _put_one(root: Path, metadata: Path | None) -> None:
    async with graviton.open(root, metadata=metadata) as store:
        await store.put(os.urandom(100))


async def _count(root: Path, metadata: Path) -> int:
    async with graviton.open(root, metadata=metadata) as store:
        return (await store.totals()).blobs


def test_damage_that_a_retired_store_reads_is_told_and_marked_nowhere(tmp_path: Path, run: Cli) -> None:
    """Also blocks that the new metadata has collected since seem to be missing there."""
    (tmp_path / "one").write_bytes(b"one")
    [blob] = run("put", tmp_path / "one").ids
    assert run("meta", "copy", "--to", f"sqlite:{tmp_path}/new").code == 0
    [block] = (run.root / "cas/blocks/blake3").iterdir()
    block.unlink()
    assert run("get", blob, "-o", tmp_path / "copy", "--json").objects[-1]["error"] == "integrity"
    assert run("verify", "--all").code == 1


def test_a_lost_target_is_given_up_by_hand(tmp_path: Path, run: Cli) -> None:
    (tmp_path / "one").write_bytes(b"one")
    assert run("put", tmp_path / "one").code == 0
    assert run("meta", "copy", "--to", f"sqlite:{tmp_path}/new").code == 0
    for path in tmp_path.glob("new*"):
        path.unlink()
    assert run("put", tmp_path / "one").code == 1
    assert "--retired" in run("store", "adopt").err
    assert run("store", "adopt", "--retired").code == 0
    assert run("put", tmp_path / "one").code == 0
    assert run("verify", "--all").code == 0


async def _vanish(self: Handover, *args: object, **options: object) -> None:
    raise Unavailable("the network is gone")


def test_a_copy_that_was_killed_closed_is_given_up_by_command(
    tmp_path: Path, run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_bytes(b"one")
    assert run("put", tmp_path / "one").code == 0
    with monkeypatch.context() as patched:
        patched.setattr(Handover, "pass_on", _vanish)
        failed = run("meta", "copy", "--to", f"sqlite:{tmp_path}/new")
    assert failed.code == 1
    assert "takes no changes until the same command was run again" in failed.err
    status = run("meta", "status", "--json").objects[0]
    assert (status["state"], status["target"]) == ("moving", str(tmp_path / "new"))
    assert "settings" not in status
    assert "GRAVITON_METADATA" not in run("meta", "status").out
    waits = run("put", tmp_path / "one", "--json").objects[0]
    assert (waits["error"], "--abort" in waits["hint"]) == ("unavailable", True)
    wrong = run("meta", "copy", "--to", f"sqlite:{tmp_path}/elsewhere", "--abort")
    assert "is being moved to" in wrong.err
    assert run("meta", "copy", "--to", f"sqlite:{tmp_path}/new", "--abort").code == 0
    assert run("put", tmp_path / "one").code == 0
    with monkeypatch.context() as patched:
        patched.setenv("GRAVITON_META_PATH", str(tmp_path / "new"))
        assert run("meta", "status", "--json").objects[0]["state"] == "half_copy"
        assert "half a copy" in run("ls").err


@pytest.mark.parametrize("lost", ["missing", "damaged"])
def test_a_target_that_is_lost_while_it_is_half_is_given_up_by_hand(
    lost: str, tmp_path: Path, run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_bytes(b"one")
    assert run("put", tmp_path / "one").code == 0
    to = ("meta", "copy", "--to", f"sqlite:{tmp_path}/new")
    with monkeypatch.context() as patched:
        patched.setattr(Handover, "pass_on", _vanish)
        assert run(*to).code == 1
    for path in tmp_path.glob("new*"):
        path.unlink() if lost == "missing" else path.write_bytes(os.urandom(20_000))
    assert run(*to, "--abort").code == 1
    if lost == "missing":
        assert "adopt --retired" in run(*to, "--abort").err
        assert not (tmp_path / "new").exists()
    assert run("put", tmp_path / "one").code == 1
    assert "adopt --retired" in run("store", "adopt").err
    assert run("store", "adopt", "--retired").code == 0
    assert run("put", tmp_path / "one").code == 0
    assert run("verify", "--all").code == 0
