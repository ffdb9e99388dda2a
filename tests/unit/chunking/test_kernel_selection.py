from __future__ import annotations

import ctypes
import errno
import os
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blake3
import pytest

from graviton.core.chunking import Kernel, PythonKernel, _kernel, select_kernel
from graviton.core.hashing import HashAlgo
from graviton.errors import ConfigError, InvalidInput, Unsupported

pytestmark = pytest.mark.python_kernel


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has not selected a kernel yet."""
    monkeypatch.setattr(_kernel, "_selected", {})
    return


@pytest.fixture
def no_native(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    monkeypatch.setitem(sys.modules, "graviton_kernel", None)


def test_python_is_always_there(no_native: None) -> None:
    kernel = select_kernel("python")
    assert (kernel.name, kernel.simd) == ("python", "none")


def test_an_unknown_choice_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="unknown kernel 'rust'") as caught:
        select_kernel("rust")
    assert "auto, native, python" in caught.value.hint


def test_a_missing_native_kernel_that_was_asked_for_is_a_config_error(no_native: None) -> None:
    with pytest.raises(ConfigError, match="cannot be imported") as caught:
        select_kernel("native")
    assert "pip install ./native" in caught.value.hint
    assert "pip install graviton" not in caught.value.hint, "no package of an index is promised"


def test_auto_without_the_native_kernel_warns_once(no_native: None) -> None:
    with pytest.warns(RuntimeWarning, match="slow pure-Python") as caught:
        assert select_kernel("auto").name == "python"
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert select_kernel("auto").name == "python"


def test_the_native_kernel_is_preferred(native: Any, fresh: None) -> None:
    kernel = select_kernel("auto")
    assert (kernel.name, kernel.simd) == ("native", native.simd_path())


class Damaged(types.SimpleNamespace):
    """A native module with some functions replaced."""

    def __init__(self, native: Any, **changes: Any) -> None:
        super().__init__(**{name: getattr(native, name) for name in dir(native) if not name.startswith("__")})
        self.__version__ = native.__version__
        self.__dict__.update(changes)


@pytest.mark.parametrize("choice", ["auto", "native"])
def test_a_native_kernel_that_fails_its_self_test_is_refused(
    native: Any, fresh: None, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    wrong = Damaged(native, digest=lambda data, algo: b"\0" * 32)
    monkeypatch.setitem(sys.modules, "graviton_kernel", wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="self-test: wrong blake3 digest"):
        select_kernel(choice)


def test_the_self_test_tries_every_simd_path(native: Any, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Shifted:
        def __init__(self, spec: str, simd: str | None = None) -> None:
            self.inner = native.Chunker("fixed-v1:100" if simd == "portable" else spec, simd)
            self.feed, self.finish = self.inner.feed, self.inner.finish

    monkeypatch.setitem(sys.modules, "graviton_kernel", Damaged(native, Chunker=Shifted))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"wrong cuts for w16-v1:.* with simd portable"):
        select_kernel("native")


def test_a_debug_build_warns(native: Any, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graviton_kernel", Damaged(native, is_debug_build=lambda: True))  # type: ignore[arg-type]
    with pytest.warns(RuntimeWarning, match="debug build"):
        assert select_kernel("native").name == "native"


def test_digests(each_kernel: Kernel) -> None:
    parts = [b"", b"abc", bytes(100_000)]
    expected = [blake3.blake3(part).digest() for part in parts]
    assert each_kernel.digest_many(parts) == expected
    assert [each_kernel.digest(memoryview(part)) for part in parts] == expected
    assert each_kernel.digest_many([bytearray(part) for part in parts], HashAlgo.SHA256) == [
        HashAlgo.SHA256.digest(part).raw for part in parts
    ]
    assert each_kernel.digest_many([]) == []


def test_syncfs(each_kernel: Kernel, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        each_kernel.syncfs(fd)
    finally:
        os.close(fd)
    for wrong in (fd, -1):
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            each_kernel.syncfs(wrong)
        assert caught.value.errno == errno.EBADF


def test_syncfs_without_support_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **kwargs: object())
    with pytest.raises(Unsupported):
        PythonKernel().syncfs(0)


def test_errors_of_both_kernels_are_value_errors(native: Any) -> None:
    assert issubclass(InvalidInput, ValueError)
    for wrong in ("w16:128:1KiB:2KiB", "w16-v1:127:1024:2048", "fastcdc-v1:65:256:1024", "balanced", ""):
        with pytest.raises(ValueError, match=r"canonical|at least|even"):
            native.Chunker(wrong)
