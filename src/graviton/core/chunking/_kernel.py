"""Picks the implementation that cuts, hashes and writes small files: the native kernel or the references here.

Both give the same cuts and digests for every input; the native one is about a thousand times faster. This module reads
no environment: the choice is an argument.
"""

from __future__ import annotations

import errno
import importlib
import os
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

from graviton.core.buffers import Buffer
from graviton.core.chunking._selftest import self_test
from graviton.core.chunking.chunker import Chunker, Cutter, StreamingChunker
from graviton.core.chunking.delimiter import DelimiterCutter
from graviton.core.chunking.fastcdc import FastCdcCutter
from graviton.core.chunking.fixed import FixedCutter
from graviton.core.chunking.ingest import Ingest, PythonIngest
from graviton.core.chunking.spec import ChunkerSpec
from graviton.core.chunking.w16 import W16Cutter
from graviton.core.files import FileBatches, FilesError, PythonFileBatches, SystemCalls
from graviton.core.hashing import DEFAULT_HASH, HashAlgo
from graviton.errors import ConfigError, Unsupported

__all__ = ["KERNEL_CHOICES", "Kernel", "NativeKernel", "PythonKernel", "cutter_for", "select_kernel"]

KERNEL_CHOICES = ("auto", "native", "python")
"""What `select_kernel` accepts."""

INSTALL_HINT = "Build it in Graviton's repository: `make setup`, or `pip install ./native`; Rust: https://rustup.rs"


class Kernel(FileBatches, Protocol):
    """What the rest of the system needs done fast. Objects are stateless and may be shared by threads."""

    @property
    def name(self) -> str:
        """`native` or `python`."""
        ...

    @property
    def simd(self) -> str:
        """The instruction set w16-v1 runs on: `avx512-vbmi-gfni`, `avx512bw`, `avx2`, `portable`, or `none`."""
        ...

    def chunker(self, spec: ChunkerSpec) -> Chunker:
        """A new chunker at the start of a stream."""
        ...

    def ingest(self, spec: ChunkerSpec, algo: HashAlgo = DEFAULT_HASH, blob_algo: HashAlgo | None = None) -> Ingest:
        """A new ingest at the start of a blob; `blob_algo` is `algo` unless given."""
        ...

    def digest(self, data: Buffer, algo: HashAlgo = DEFAULT_HASH) -> bytes:
        """The raw digest of `data`."""
        ...

    def digest_many(self, buffers: Sequence[Buffer], algo: HashAlgo = DEFAULT_HASH) -> list[bytes]:
        """The raw digest of each buffer, in order."""
        ...

    def syncfs(self, fd: int) -> None:
        """Make everything written to the file system that holds `fd` durable; blocks, with the GIL released.

        Raises OSError with its errno, and Unsupported where the system has no such call.
        """
        ...


class PythonKernel(PythonFileBatches):
    """The references: correct, the definition, and slow (a few MB/s)."""

    name = "python"
    simd = "none"

    def __init__(self) -> None:
        super().__init__(SystemCalls())

    def chunker(self, spec: ChunkerSpec) -> Chunker:
        """See `Kernel.chunker`."""
        return StreamingChunker(cutter_for(spec))

    def ingest(self, spec: ChunkerSpec, algo: HashAlgo = DEFAULT_HASH, blob_algo: HashAlgo | None = None) -> Ingest:
        """See `Kernel.ingest`."""
        return PythonIngest(cutter_for(spec), algo, blob_algo)

    def digest(self, data: Buffer, algo: HashAlgo = DEFAULT_HASH) -> bytes:
        """See `Kernel.digest`."""
        return algo.digest(data).raw

    def digest_many(self, buffers: Sequence[Buffer], algo: HashAlgo = DEFAULT_HASH) -> list[bytes]:
        """See `Kernel.digest_many`."""
        return [algo.digest(data).raw for data in buffers]

    def syncfs(self, fd: int) -> None:
        """See `Kernel.syncfs`. Calls the C library."""
        import ctypes  # 10 ms, needed by few

        libc = ctypes.CDLL(None, use_errno=True)
        call = getattr(libc, "syncfs", None)
        if call is None:
            raise Unsupported("the C library has no syncfs", operation="syncfs", hint=INSTALL_HINT)
        if call(ctypes.c_int(fd)) != 0:
            number = ctypes.get_errno()
            if number == errno.ENOSYS:
                raise Unsupported("this system has no syncfs", operation="syncfs")
            raise OSError(number, os.strerror(number))


class NativeKernel:
    """The Rust kernel, module `graviton_kernel`."""

    name = "native"

    def __init__(self, module: Any) -> None:
        self._module = module
        self.simd: str = module.simd_path()
        self.version: str = module.__version__

    def chunker(self, spec: ChunkerSpec) -> Chunker:
        """See `Kernel.chunker`."""
        chunker: Chunker = self._module.Chunker(spec.text)
        return chunker

    def ingest(self, spec: ChunkerSpec, algo: HashAlgo = DEFAULT_HASH, blob_algo: HashAlgo | None = None) -> Ingest:
        """See `Kernel.ingest`."""
        ingest: Ingest = self._module.Ingest(spec.text, algo.value, (blob_algo or algo).value)
        return ingest

    def digest(self, data: Buffer, algo: HashAlgo = DEFAULT_HASH) -> bytes:
        """See `Kernel.digest`. Releases the GIL."""
        digest: bytes = self._module.digest(data, algo.value)
        return digest

    def digest_many(self, buffers: Sequence[Buffer], algo: HashAlgo = DEFAULT_HASH) -> list[bytes]:
        """See `Kernel.digest_many`. Releases the GIL once for all."""
        digests: list[bytes] = self._module.digest_many(buffers, algo.value)
        return digests

    def syncfs(self, fd: int) -> None:
        """See `Kernel.syncfs`."""
        try:
            self._module.syncfs(fd)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise Unsupported("this system has no syncfs", operation="syncfs") from error
            raise

    def write_files(self, folder: int, names: Sequence[str], buffers: Sequence[Buffer], mode: int) -> None:
        """See `FileBatches`. Releases the GIL once for all."""
        try:
            self._module.write_files(folder, names, buffers, mode)
        except OSError as error:
            raise _stopped(error) from error

    def rename_files(self, folder: int, olds: Sequence[str], news: Sequence[str]) -> None:
        """See `FileBatches`. Releases the GIL once for all."""
        try:
            self._module.rename_files(folder, olds, news)
        except OSError as error:
            raise _stopped(error) from error


def _stopped(error: Any) -> FilesError:
    return FilesError(error.errno, error.strerror, error.index, error.made)


def cutter_for(spec: ChunkerSpec) -> Cutter:
    """The reference cut rule of `spec`."""
    cutters: dict[str, type[FixedCutter | DelimiterCutter | FastCdcCutter | W16Cutter]] = {
        "fixed-v1": FixedCutter,
        "delimiter-v1": DelimiterCutter,
        "fastcdc-v1": FastCdcCutter,
        "w16-v1": W16Cutter,
    }
    return cutters[spec.algorithm](spec)


_selected: dict[str, Kernel] = {}
"""One kernel per choice and process: the self-test runs and the warnings come once."""


def select_kernel(choice: str = "auto") -> Kernel:
    """The kernel called `choice`: `native`, `python`, or `auto`, which is native if it is installed.

    Raises ConfigError for any other word, if native is asked for and missing, and if the native one fails its
    self-test. `auto` without the native kernel warns once per process (RuntimeWarning); so does a debug build.
    """
    if choice not in KERNEL_CHOICES:
        raise ConfigError(
            f"unknown kernel {choice!r}", operation="select kernel", hint=f"Use one of {', '.join(KERNEL_CHOICES)}."
        )
    kernel = _selected.get(choice)
    if kernel is None:
        kernel = _selected[choice] = PythonKernel() if choice == "python" else _load_native(choice == "native")
    return kernel


def _load_native(required: bool) -> Kernel:
    try:
        module = importlib.import_module("graviton_kernel")
    except ImportError as error:
        if required:
            raise ConfigError(
                f"the native kernel cannot be imported: {error}", operation="select kernel", hint=INSTALL_HINT
            ) from error
        warnings.warn(
            f"the native kernel is not installed; running the slow pure-Python one. {INSTALL_HINT}",
            RuntimeWarning,
            stacklevel=4,
        )
        return PythonKernel()
    problem = self_test(module)
    if problem:  # also under auto: a kernel that cuts wrongly must be looked at, not silently replaced
        raise ConfigError(
            f"the native kernel failed its self-test: {problem}",
            operation="select kernel",
            hint="Build it anew (`pip install --force-reinstall ./native`), or choose the python kernel.",
        )
    if module.is_debug_build():
        warnings.warn("graviton-kernel is a debug build and slow; build it for release", RuntimeWarning, stacklevel=4)
    return NativeKernel(module)
