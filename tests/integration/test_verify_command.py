"""`graviton verify`, `stats` and `chunk` as processes: exit codes, texts and objects."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

from tests.integration.command_runs import block_files, graviton, put_file

BLOCK_BYTES = 64 * 1024
DATA = random.Random(1).randbytes(4 * BLOCK_BYTES + 100)


def test_damage_is_named_and_exits_1_and_putting_again_repairs(tmp_path: Path) -> None:
    root, file = tmp_path / "store", tmp_path / "file"
    blob = put_file(root, file, DATA)
    clean = graviton(root, "verify", "--all")
    assert (clean.code, clean.err) == (0, "")
    assert "1 blob is whole" in clean.out

    bad = next(path for path in block_files(root) if path.read_bytes() == DATA[BLOCK_BYTES : 2 * BLOCK_BYTES])
    bad.chmod(0o600)
    bad.write_bytes(bad.read_bytes()[:-1] + b"?")
    text = graviton(root, "verify", blob)
    assert text.code == 1
    assert "put the damaged files again" in text.err
    [line] = [line for line in text.out.splitlines() if line.startswith("DAMAGED")]
    hex_digest, size = bad.name.split("-")
    for part in (blob, f"blake3:{hex_digest}:{size}", f"bytes {BLOCK_BYTES}-{2 * BLOCK_BYTES - 1}"):
        assert part in line

    found = graviton(root, "verify", "--all", "--json")
    assert found.code == 1
    [damage, summary] = found.objects
    assert (damage["damage"], damage["id"], damage["size"]) == ("block", blob, len(DATA))
    assert damage["range"] == f"{BLOCK_BYTES}-{2 * BLOCK_BYTES - 1}"
    assert damage["block"] == {"key": f"blake3:{hex_digest}:{size}", "size": BLOCK_BYTES, "offset": BLOCK_BYTES}
    assert (summary["summary"], summary["clean"], summary["damages"]) == ("verify", False, 1)

    again = graviton(root, "put", file, "--chunker", "fixed-v1:64KiB", "--json")
    assert again.objects[0]["repaired_blocks"] == 1
    assert graviton(root, "verify", blob[:15]).code == 0  # shortened to 8 digits
    assert graviton(root, "verify", "--all", "--quick").code == 0


def test_damaged_page_exits_1_and_says_which_bytes(tmp_path: Path) -> None:
    root = tmp_path / "store"
    blob = put_file(root, tmp_path / "file", DATA)
    with sqlite3.connect(root / "meta.sqlite") as connection:
        connection.execute("UPDATE ns_pages SET value = substr(value, 1, 30)")
    connection.close()
    run = graviton(root, "verify", blob)
    assert run.code == 1
    assert blob in run.out
    assert f"bytes 0-{len(DATA) - 1}" in run.out
    assert "1 damage in 1 of 1 blob;" in run.out
    put_file(root, tmp_path / "file", DATA)
    assert graviton(root, "verify", "--all").code == 0


def test_damaged_totals_are_told_and_stop_nothing(tmp_path: Path) -> None:
    root = tmp_path / "store"
    put_file(root, tmp_path / "file", DATA)
    with sqlite3.connect(root / "meta.sqlite") as connection:
        connection.execute("UPDATE ns_totals SET value = substr(value, 1, 3)")
    connection.close()
    run = graviton(root, "verify", "--all", "--json")
    assert run.code == 1
    damage, summary = run.objects
    assert damage["damage"] == "store"
    assert (summary["blobs"], summary["damages"], summary["damaged_blobs"]) == (1, 1, 0)
    assert "put the damaged files again" not in run.err, "that would not help"
    assert "backup" in run.err


def test_usage_is_2_and_missing_is_1(tmp_path: Path) -> None:
    root = tmp_path / "store"
    assert graviton(root, "verify").code == 2
    assert graviton(root, "verify", "--all", "blake3:00000000").code == 2
    assert graviton(root, "verify", "nonsense").code == 2
    assert graviton(root, "verify", "--all").code == 1
    assert not root.exists()
    put_file(root, tmp_path / "file", DATA)
    missing = graviton(root, "verify", "blake3:" + "0" * 64 + ":5", "--json")
    assert (missing.code, missing.objects[0]["error"]) == (1, "not_found")


def test_stats_are_the_sums(tmp_path: Path) -> None:
    root = tmp_path / "store"
    assert graviton(root, "stats").code == 1
    assert not root.exists()
    put_file(root, tmp_path / "one", DATA)
    put_file(root, tmp_path / "two", DATA + DATA[:BLOCK_BYTES])
    run = graviton(root, "stats", "--json")
    assert run.code == 0
    [found] = run.objects
    stored = sum(path.stat().st_size for path in block_files(root))
    assert found == {
        "blobs": 2,
        "logical_bytes": 2 * len(DATA) + BLOCK_BYTES,
        "unique_blocks": len(block_files(root)),
        "stored_bytes": stored,
        "dedup_ratio": (2 * len(DATA) + BLOCK_BYTES) / stored,
    }
    text = graviton(root, "stats").out
    assert "dedup ratio" in text
    assert f"{stored:,}" in text


def test_stats_tell_how_much_of_the_quota_is_used(tmp_path: Path) -> None:
    root = tmp_path / "store"
    put_file(root, tmp_path / "one", DATA)
    limits = {"GRAVITON_QUOTA_BYTES": "1GiB", "GRAVITON_QUOTA_HOLDER_BLOBS": "7"}
    [found] = graviton(root, "stats", "--json", **limits).objects
    assert found["quota"] == {
        "used_bytes": len(DATA),
        "used_blobs": 1,
        "reserved_bytes": 0,
        "reserved_blobs": 0,
        "limit_bytes": 1 << 30,
        "limit_blobs": None,
        "holder_limit_bytes": None,
        "holder_limit_blobs": 7,
    }
    text = graviton(root, "stats", **limits).out
    assert f"quota bytes    {len(DATA):,} of {1 << 30:,} used, 0 reserved\n" in text
    assert "quota blobs    1 used, 0 reserved; each holder 7\n" in text


def test_stats_tell_how_full_the_cache_is(tmp_path: Path) -> None:
    root, cache = tmp_path / "store", tmp_path / "cache"
    blob = put_file(root, tmp_path / "one", DATA)
    cached = {"GRAVITON_CACHE_ROOT": str(cache), "GRAVITON_CACHE_BYTES": "64MiB"}
    [found] = graviton(root, "stats", "--json", **cached).objects
    expected = {"root": str(cache), "entries": 0, "bytes": 0, "limit_bytes": 64 << 20, "keeper": None}
    assert found["cache"] == expected
    assert not cache.exists()
    assert graviton(root, "get", blob, "-o", tmp_path / "copy", **cached).code == 0
    [found] = graviton(root, "stats", "--json", **cached).objects
    assert found["cache"] == expected | {"entries": len(block_files(root)), "bytes": len(DATA)}
    assert f"{len(block_files(root)):,} blocks, " in graviton(root, "stats", **cached).out
    (tmp_path / "file").write_bytes(b"")
    run = graviton(root, "stats", "--json", GRAVITON_CACHE_ROOT=str(tmp_path / "file"))
    assert (run.code, run.objects[0]["cache"]) == (0, None), "a cache that cannot be used fails nothing"


def test_chunk_shows_cuts_and_sizes_without_a_store(tmp_path: Path) -> None:
    root, file = tmp_path / "none", tmp_path / "file"
    data = random.Random(2).randbytes(300_000)
    file.write_bytes(data)
    run = graviton(root, "chunk", file, "--chunker", "fastcdc-v1:4KiB:8KiB:16KiB", "--json")
    assert run.code == 0
    *cuts, summary = run.objects
    assert len(cuts) > 10
    assert [cut["offset"] for cut in cuts] == [sum(one["size"] for one in cuts[:n]) for n in range(len(cuts))]
    assert sum(cut["size"] for cut in cuts) == len(data) == summary["size"]
    sizes = [cut["size"] for cut in cuts]
    assert (summary["count"], summary["min"], summary["max"]) == (len(cuts), min(sizes), max(sizes))
    assert summary["forced"] == sizes.count(16 * 1024)
    assert summary["mean"] == len(data) / len(cuts)
    assert sum(bucket["chunks"] for bucket in summary["histogram"]) == len(cuts)
    piped = graviton(root, "chunk", "-", "--chunker", "fastcdc-v1:4KiB:8KiB:16KiB", "--json", stdin=data)
    assert piped.out == run.out
    assert not root.exists()


def test_chunk_of_the_same_byte_over_and_over_is_forced(tmp_path: Path) -> None:
    run = graviton(tmp_path, "chunk", "-", "--chunker", "fastcdc-v1:4KiB:8KiB:16KiB", "--json", stdin=bytes(80 * 1024))
    assert run.objects[-1]["forced"] == run.objects[-1]["count"] == 5


def test_chunk_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    assert graviton(tmp_path, "chunk", tmp_path / "none").code == 1
    assert graviton(tmp_path, "chunk", tmp_path).code == 1
    wrong = graviton(tmp_path, "chunk", "-", "--chunker", "rabin")
    assert wrong.code == 2
    assert "rabin" in wrong.err
    empty = graviton(tmp_path, "chunk", "-", "--json")
    assert [one["count"] for one in empty.objects] == [0]
