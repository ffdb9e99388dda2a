"""Locators and layouts: exact paths, which are stored formats, and what may never be in a path."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.locators import (
    CasLocatorStrategy,
    Locator,
    LocatorStrategy,
    MirrorLocatorStrategy,
    Sector,
    ShardedLocatorStrategy,
    parse_block_name,
)
from graviton.errors import InvalidInput

GOLDEN = json.loads(Path(__file__, "../../../golden/locators.json").resolve().read_text())
KEYS = [BlockKey(algo.digest(b"hello"), 5) for algo in HashAlgo]
SECTORS = [Sector(name, "s3", f"bucket-{name}", "p") for name in ("north", "south", "east", "west", "été")]


def key_of(number: int) -> BlockKey:
    """Some block key."""
    return BlockKey(HashAlgo.SHA256.digest(number.to_bytes(4)), 1)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_the_layouts_never_change(key: BlockKey) -> None:
    expected = GOLDEN[key.text]
    assert CasLocatorStrategy().block_path(key) == expected["cas"]
    assert CasLocatorStrategy(prefix="").block_path(key) == expected["cas without prefix"]
    assert ShardedLocatorStrategy().block_path(key) == expected["sharded"]
    assert [sector.name for sector in MirrorLocatorStrategy(SECTORS, 5).choose(key)] == expected["sectors, best first"]


def test_every_strategy_offers_the_same_interface() -> None:
    strategies: list[LocatorStrategy] = [
        CasLocatorStrategy("s3", "b"), ShardedLocatorStrategy("s3", "b"), MirrorLocatorStrategy(SECTORS),
    ]  # fmt: skip
    for strategy in strategies:
        for key in (KEYS[0], BlobKey(KEYS[0].digest, 5)):
            assert strategy.locate(key).path == strategy.block_path(key)
            assert Locator.parse(strategy.locate(key).text) == strategy.locate(key)


def test_mirrors_give_one_locator_in_each_chosen_sector() -> None:
    mirror = MirrorLocatorStrategy(SECTORS, 3)
    chosen = mirror.choose(KEYS[0])
    assert mirror.locate_all(KEYS[0]) == tuple(
        Locator("s3", sector.bucket, CasLocatorStrategy(prefix="p").block_path(KEYS[0])) for sector in chosen
    )
    assert mirror.sectors == tuple(SECTORS)


def test_mirrors_spread_keys_evenly() -> None:
    mirror = MirrorLocatorStrategy(SECTORS, 2)
    counts = Counter(sector.name for number in range(2000) for sector in mirror.choose(key_of(number)))
    # 2000 keys x 2 copies / 5 sectors = 800 each; the standard deviation is 22, and the keys are always the same.
    assert all(abs(count - 800) < 100 for count in counts.values())
    assert len(counts) == 5


@pytest.mark.parametrize("copies", [0, 6])
def test_mirrors_need_a_sector_for_each_copy(copies: int) -> None:
    with pytest.raises(InvalidInput, match="need as many sectors"):
        MirrorLocatorStrategy(SECTORS, copies)


def test_mirrors_refuse_two_sectors_of_one_name() -> None:
    with pytest.raises(InvalidInput, match="same name"):
        MirrorLocatorStrategy([SECTORS[0], Sector("north", "s3", "other")])


@pytest.mark.parametrize("name", ["", "a/b", "a b", "a\x00", "n" * 257])
def test_a_sector_has_a_plain_name(name: str) -> None:
    with pytest.raises(InvalidInput, match="sector name"):
        Sector(name, "s3", "b")


@pytest.mark.parametrize("bad", [("S3", "b", "p"), ("s3", "b/c", "p"), ("s3", "b", "p/../q")])
def test_a_sector_is_a_legal_place(bad: tuple[str, str, str]) -> None:
    with pytest.raises(InvalidInput):
        Sector("name", *bad)


HEX = KEYS[1].hex


@pytest.mark.parametrize(
    "name",
    [
        "", HEX, f"{HEX}-", f"{HEX}-0", f"{HEX}-05", f"{HEX}-+5", f"{HEX}-٥", f"{HEX}-5.zst", f"{HEX}-5 ",
        f"{HEX}-16777217", f"{HEX}-100000000", f"{HEX.upper()}-5", f"{HEX[1:]}-5", f"{HEX}0-5", f"{HEX}_5",
        f".{HEX}-5", "x" * 10_000,
    ],
)  # fmt: skip
def test_a_file_that_is_no_block_is_not_taken_for_one(name: str) -> None:
    with pytest.raises(InvalidInput):
        parse_block_name(HashAlgo.SHA256, name)


def test_the_name_of_the_largest_block_parses() -> None:
    assert parse_block_name(HashAlgo.SHA256, f"{HEX}-16777216").size == 16 * 1024 * 1024


@pytest.mark.parametrize(
    "path",
    [
        f"cas/blocks/sha-256/{HEX}-5", f"cas/blocks/{HEX}-5", f"sha256/{HEX}-5", f"/cas/blocks/sha256/{HEX}-5",
        f"cas/blocks/sha256/x/{HEX}-5", f"cas/blocks//sha256/{HEX}-5", "cas/blocks/", "",
        f"cas/blocks/sha256/{HEX[:2]}/{HEX[2:4]}/{HEX}-5",
    ],
)  # fmt: skip
def test_a_path_of_another_layout_is_invalid_input(path: str) -> None:
    with pytest.raises(InvalidInput):
        CasLocatorStrategy().parse_path(path)


def test_a_sharded_path_under_the_wrong_digits_is_invalid_input() -> None:
    path = ShardedLocatorStrategy().block_path(KEYS[1])
    wrong = path.replace(f"/{HEX[:2]}/", "/00/")
    assert wrong != path
    with pytest.raises(InvalidInput):
        ShardedLocatorStrategy().parse_path(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "", "s3", "s3:/b/p", "s3://b", "s3://b/", "s3:///p", "://b/p", "S3://b/p", "3s://b/p", "s 3://b/p",
        "s3://b/p/", "s3://b//p", "s3://b/./p", "s3://b/..", "s3://b/p/../q", "s3://../p", "s3://./p", "s3://b b/p",
        "s3://b/p q", "s3://b/p\tq", "s3://b/p\n", "s3://b/\x00", "s3://b/\x7f", "s3://b/\x85", "s3://b/\u3000",
        "s3://b/\ud800", " s3://b/p", "s3://b/" + "p" * 2049, "s3://" + "b" * 257 + "/p", "s" * 65 + "://b/p",
    ],
)  # fmt: skip
def test_a_malformed_locator_is_invalid_input(text: str) -> None:
    with pytest.raises(InvalidInput):
        Locator.parse(text)


@pytest.mark.parametrize("path", ["p", "...", "a..b", ".hidden", "x:y", "p" * 2048, "naïve/文件", "\U000e0fff"])
def test_unusual_but_legal_paths_are_locators(path: str) -> None:
    assert Locator.parse(f"s3+https://b/{path}").path == path


@pytest.mark.parametrize("prefix", ["/cas", "cas/", "cas//blocks", "../cas", "cas blocks", "p" * 2000])
def test_a_prefix_that_could_leave_its_place_is_invalid_input(prefix: str) -> None:
    with pytest.raises(InvalidInput, match="prefix"):
        CasLocatorStrategy(prefix=prefix)


def test_locators_sort_as_their_texts() -> None:
    texts = ["a://b/c", "a://b/c/d", "a://b-/c", "a+b://a/a"]
    assert [locator.text for locator in sorted(map(Locator.parse, texts))] == sorted(texts)
