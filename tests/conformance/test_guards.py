"""The suite itself: nothing is outside of it, nothing is skipped in silence, no law is replaced."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from graviton.ports.blobs import BlobReader
from graviton.testing.conformance.contract import Contract
from graviton.testing.conformance.coverage import all_contracts, implementations, ports, untested
from graviton.testing.conformance.kv import KeyValueStoreContract
from graviton.testing.pytest_plugin import required_backends

HERE = Path(__file__).parent
PACKAGES = ["graviton.backends", "graviton.metadata", "graviton.stores"]

LOADED: dict[Path, ModuleType] = {}  # a class is gone with its module

WITHOUT_CONTRACT = {
    BlobReader: "part of BlobStore: its laws are checked through `get`",
}


def load_all_contracts() -> None:
    """Import the modules beside this one, so that running this file alone sees the same contracts."""
    for path in HERE.glob("test_*.py"):
        if path != Path(__file__) and path not in LOADED:
            spec = importlib.util.spec_from_file_location(f"guarded_{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            LOADED[path] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(LOADED[path])


def test_every_port_has_a_contract() -> None:
    load_all_contracts()
    covered = {base for contract in all_contracts() for base in contract.port.__mro__}
    assert sorted(port.__name__ for port in ports() - covered - set(WITHOUT_CONTRACT)) == []


def test_every_implementation_has_a_contract_class() -> None:
    load_all_contracts()
    found = implementations(PACKAGES, ports() - set(WITHOUT_CONTRACT))
    assert len(found) >= 10, "the walk finds the memory backend at least"
    assert [str(one) for one in untested(found, all_contracts())] == []


def test_required_backends_are_names_that_contracts_use() -> None:
    load_all_contracts()
    known = {contract.backend for contract in all_contracts()} - {""}
    assert required_backends() - known == set(), "GRAVITON_REQUIRE_BACKENDS names a backend that nothing tests"


def test_law_cannot_be_overridden() -> None:
    with pytest.raises(TypeError, match="overrides the law test_missing_key_is_none"):
        type("Sly", (KeyValueStoreContract,), {"test_missing_key_is_none": None})


def test_known_gap_must_name_a_law_and_a_reason() -> None:
    with pytest.raises(TypeError, match="no law"):
        type("Typo", (KeyValueStoreContract,), {"known_gaps": {"test_no_such_law": "because"}})
    with pytest.raises(TypeError, match="gives no reason"):
        type("Silent", (KeyValueStoreContract,), {"known_gaps": {"test_missing_key_is_none": " "}})


def test_contract_must_know_its_capabilities() -> None:
    with pytest.raises(TypeError, match="must say its capabilities"):
        type("Unknown", (Contract,), {"implementation": object})


PLUGIN_TESTS = """
import pytest
from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.ports.kv import KeyValueStore
from graviton.testing.conformance.contract import Contract, needs

class Mini(Contract[KeyValueStore]):
    port = KeyValueStore
    async def test_works(self):
        store = await self.open()
        assert await store.get("a", b"key") is None
    async def test_fails(self):
        assert await (await self.open()).get("a", b"key") == b"never"
    @needs("persistent")
    async def test_persists(self):
        raise AssertionError("must not run")

class TestPlain(Mini):
    implementation = InMemoryKeyValueStore
    def make_store(self):
        return InMemoryKeyValueStore()

class TestGap(TestPlain):
    known_gaps = {"test_fails": "planned", "test_works": "is kept after all"}

class TestAway(TestPlain):
    backend = "faraway"
    @classmethod
    def unavailable(cls):
        return "nobody answers"
"""


COUNTS = {
    "": {"passed": 1, "skipped": 5, "failed": 2, "xfailed": 1},
    "faraway": {"passed": 1, "skipped": 3, "failed": 2, "xfailed": 1, "errors": 2},
}


@pytest.mark.parametrize("required", COUNTS)
def test_plugin_skips_with_reasons_and_obeys_the_environment(tmp_path: Path, required: str) -> None:
    (tmp_path / "conftest.py").write_text("from graviton.testing.pytest_plugin import *\n")
    (tmp_path / "test_mini.py").write_text(PLUGIN_TESTS)
    command = [sys.executable, "-m", "pytest", "-rs", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", "--tb=line"]
    environment = {**os.environ, "GRAVITON_REQUIRE_BACKENDS": required}
    command += ["-c", os.devnull, f"--rootdir={tmp_path}", f"--basetemp={tmp_path / 'tmp'}", str(tmp_path)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    found = re.findall(r"(\d+) (passed|skipped|failed|xfailed|errors)", ran.stdout)
    counted = {kind: int(number) for number, kind in found}
    assert counted == COUNTS[required], ran.stdout + ran.stderr
    assert "the capability persistent is not declared" in ran.stdout
    assert "nobody answers" in ran.stdout
    assert ("GRAVITON_REQUIRE_BACKENDS names faraway" in ran.stdout) is bool(required)
