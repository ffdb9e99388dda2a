"""`graviton doctor` and `bench`: works without a store, says what is wrong, shows no secrets, leaves nothing."""

from __future__ import annotations

from pathlib import Path

from tests.integration.command_runs import graviton, put_file


def test_healthy_surroundings_without_and_with_a_store(tmp_path: Path) -> None:
    root = tmp_path / "store"
    without = graviton(root, "doctor", "--json")
    assert without.code == 0
    assert list(tmp_path.iterdir()) == []
    put_file(root, tmp_path / "file", b"some bytes")
    with_store = graviton(root, "doctor", "--json")
    checks = {one["check"]: one for one in with_store.objects[:-1]}
    assert checks["store"]["unique_blocks"] == 1
    assert checks["versions"]["python"].startswith("3.")
    assert checks["kernel"]["kernel"] in ("native", "python")
    assert {"blocks.file_system", "blocks.free", "blocks.fsync", "blocks.entries", "open_files", "memory"} <= set(
        checks
    )
    assert with_store.objects[-1]["healthy"] is True
    assert "all in order" in graviton(root, "doctor").out


def test_wrong_variable_kernel_and_marker_are_problems(tmp_path: Path) -> None:
    root = tmp_path / "store"
    wrong = graviton(root, "doctor", GRAVITON_MEMORY_BYTES="7")
    assert wrong.code == 1
    assert "GRAVITON_MEMORY_BYTES" in wrong.out
    put_file(root, tmp_path / "file", b"some bytes")
    (root / "graviton-store.json").unlink()
    lost = graviton(root, "doctor")
    assert lost.code == 1
    assert "graviton store adopt" in lost.out
    (root / "graviton-store.json").write_bytes(b"{")
    assert graviton(root, "doctor").code == 1


def test_settings_are_shown_with_their_source_and_without_secrets(tmp_path: Path) -> None:
    run = graviton(
        tmp_path / "store",
        "doctor",
        "--json",
        GRAVITON_CHUNKER="small",
        GRAVITON_NONSENSE="1",
        PG_PASSWORD="hush-hush",
        PG_JDBC_URL="postgresql://me:hush-hush@host/db",
    )
    settings = {one["name"]: one for one in run.objects if one.get("check") == "setting" and "name" in one}
    assert (settings["GRAVITON_CHUNKER"]["value"], settings["GRAVITON_CHUNKER"]["source"]) == (
        "w16-v1:16384:65536:262144",
        "environment",
    )
    assert settings["GRAVITON_FS_ROOT"]["source"] == "--root"
    assert settings["GRAVITON_HASH"]["source"] == "default"
    assert "hush-hush" not in run.out + run.err
    assert settings["PG_PASSWORD"]["value"] == "(set, not shown)"
    assert any(one["level"] == "warning" and "GRAVITON_NONSENSE" in one["message"] for one in run.objects[:-1])
