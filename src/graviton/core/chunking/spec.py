"""Chunker specs: which chunker, with which sizes, as one value with one canonical text.

The canonical text (`w16-v1:262144:1048576:4194304`) is stored with every blob: the same text gives the same cuts on
every machine, for ever. Changing what a text means would make stored data stop deduplicating; a different definition
gets a different version instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from graviton.core.limits import MAX_BLOCK_BYTES
from graviton.errors import InvalidInput

__all__ = ["ALGORITHMS", "DEFAULT_SPEC", "MAX_DELIMITER_BYTES", "MIN_CHUNK_BYTES", "PRESETS", "ChunkerSpec"]

KIB = 1024
MIB = 1024 * KIB

MIN_CHUNK_BYTES = 64
"""No spec may ask for smaller blocks: a key has 33 bytes, so below that the manifest outgrows the data."""

MAX_DELIMITER_BYTES = 64
"""At most `MIN_CHUNK_BYTES`, so that a delimiter that ends a block always lies wholly inside it."""

W16_MIN_BYTES = 128
"""The SIMD scanners look back up to 65 bytes, and must stay inside the chunk."""

W16_MIN_AVG_BYTES = KIB
"""Below 1 KiB the two probabilities of the cut rule would fall under that of the first level, 2^-8."""

FASTCDC_MAX_MIN_BYTES = MIB
FASTCDC_MIN_AVG_BYTES = 256
FASTCDC_MAX_AVG_BYTES = 4 * MIB
FASTCDC_MIN_MAX_BYTES = KIB
"""The bounds of the libraries that define `fastcdc-v1` (Rust crate `fastcdc`, PyPI `pyfastcdc`)."""

ALGORITHMS = ("w16-v1", "fastcdc-v1", "delimiter-v1", "fixed-v1")
"""Every chunker there is, by its canonical name."""

_DEFAULT_VERSION = "-v1"
_SHAPES = {
    "w16-v1": "w16-v1:min:avg:max",
    "fastcdc-v1": "fastcdc-v1:min:avg:max",
    "delimiter-v1": "delimiter-v1:hex:min:max",
    "fixed-v1": "fixed-v1:size",
}
_SIZE = re.compile(r"(0|[1-9][0-9]{0,18})(b|kib|mib)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "kib": KIB, "mib": MIB}


@dataclass(frozen=True, slots=True)
class ChunkerSpec:
    """A chunker and its sizes in bytes; frozen, hashable, equal exactly when the canonical texts are.

    `avg_bytes` is the size aimed at; for `fixed-v1` it is the size, for `delimiter-v1`, which aims at none, the
    minimum. `delimiter` is empty for every other algorithm. Raises InvalidInput naming the part and the bound.
    """

    algorithm: str
    min_bytes: int
    avg_bytes: int
    max_bytes: int
    delimiter: bytes = b""

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise _invalid(f"unknown chunker {self.algorithm[:40]!r}", self.algorithm[:40])
        self._check_sizes()
        _CHECKS[self.algorithm](self)
        if self.delimiter and self.algorithm != "delimiter-v1":
            raise _invalid(f"{self.algorithm} takes no delimiter", self.algorithm)

    def _check_sizes(self) -> None:
        text = self.algorithm
        least, most = ("size", "size") if text == "fixed-v1" else ("min", "max")
        if self.min_bytes < MIN_CHUNK_BYTES:
            raise _invalid(f"{text}: {least} is at least {MIN_CHUNK_BYTES} bytes, not {self.min_bytes}", text)
        if self.avg_bytes < self.min_bytes:
            raise _invalid(f"{text}: avg is at least min ({self.min_bytes} bytes), not {self.avg_bytes}", text)
        if self.max_bytes < self.avg_bytes:
            below = "min" if text == "delimiter-v1" else "avg"
            raise _invalid(f"{text}: max is at least {below} ({self.avg_bytes} bytes), not {self.max_bytes}", text)
        if self.max_bytes > MAX_BLOCK_BYTES:
            raise _invalid(f"{text}: {most} is at most {MAX_BLOCK_BYTES} bytes, not {self.max_bytes}", text)

    @classmethod
    def parse(cls, text: str) -> ChunkerSpec:
        """The spec written as `text`: canonical, with units, without the version, or the name of a preset.

        `w16-v1:262144:1048576:4194304`, `w16:256KiB:1MiB:4MiB` and `balanced` are the same spec. Raises InvalidInput.
        """
        preset = PRESETS.get(text)
        if preset is not None:
            return preset
        name, *parts = text.split(":")
        algorithm = name if name in ALGORITHMS else name + _DEFAULT_VERSION
        if algorithm not in ALGORITHMS:
            raise _invalid(f"unknown chunker {name[:40]!r}", text)
        shape = _SHAPES[algorithm]
        if len(parts) != shape.count(":"):
            raise _invalid(f"a chunker spec of {name} has the form {shape}, not {text[:120]!r}", text)
        if algorithm == "fixed-v1":
            size = _parse_size("size", parts[0], text)
            return cls(algorithm, size, size, size)
        if algorithm == "delimiter-v1":
            delimiter = _parse_hex(parts[0], text)
            least, most = _parse_size("min", parts[1], text), _parse_size("max", parts[2], text)
            return cls(algorithm, least, least, most, delimiter)
        least, avg, most = (_parse_size(*part, text) for part in zip(("min", "avg", "max"), parts, strict=True))
        return cls(algorithm, least, avg, most)

    @property
    def text(self) -> str:
        """The canonical text, the form that is stored; `parse(text)` gives an equal spec."""
        if self.algorithm == "fixed-v1":
            return f"fixed-v1:{self.max_bytes}"
        if self.algorithm == "delimiter-v1":
            return f"delimiter-v1:{self.delimiter.hex()}:{self.min_bytes}:{self.max_bytes}"
        return f"{self.algorithm}:{self.min_bytes}:{self.avg_bytes}:{self.max_bytes}"

    def __str__(self) -> str:
        return self.text


def _check_fixed(spec: ChunkerSpec) -> None:
    if not spec.min_bytes == spec.avg_bytes == spec.max_bytes:
        raise _invalid("fixed-v1: min, avg and max are all the size", "fixed-v1")


def _check_delimiter(spec: ChunkerSpec) -> None:
    size = len(spec.delimiter)
    if not 1 <= size <= MAX_DELIMITER_BYTES:
        raise _invalid(f"delimiter-v1: the delimiter has 1 to {MAX_DELIMITER_BYTES} bytes, not {size}", "delimiter-v1")
    if spec.avg_bytes != spec.min_bytes:
        raise _invalid("delimiter-v1: avg is min, because it aims at no size", "delimiter-v1")


def _check_fastcdc(spec: ChunkerSpec) -> None:
    name = "fastcdc-v1"
    if spec.min_bytes > FASTCDC_MAX_MIN_BYTES:
        raise _invalid(f"{name}: min is at most {FASTCDC_MAX_MIN_BYTES} bytes, not {spec.min_bytes}", name)
    if not FASTCDC_MIN_AVG_BYTES <= spec.avg_bytes <= FASTCDC_MAX_AVG_BYTES:
        bounds = f"{FASTCDC_MIN_AVG_BYTES} to {FASTCDC_MAX_AVG_BYTES}"
        raise _invalid(f"{name}: avg is {bounds} bytes, not {spec.avg_bytes}", name)
    if spec.max_bytes < FASTCDC_MIN_MAX_BYTES:
        raise _invalid(f"{name}: max is at least {FASTCDC_MIN_MAX_BYTES} bytes, not {spec.max_bytes}", name)
    for part, size in (("min", spec.min_bytes), ("avg", spec.avg_bytes), ("max", spec.max_bytes)):
        if size % 2:  # the definition tests positions in pairs, and libraries disagree about odd sizes
            raise _invalid(f"{name}: {part} is an even number of bytes, not {size}", name)


def _check_w16(spec: ChunkerSpec) -> None:
    if spec.min_bytes < W16_MIN_BYTES:
        raise _invalid(f"w16-v1: min is at least {W16_MIN_BYTES} bytes, not {spec.min_bytes}", "w16-v1")
    if spec.avg_bytes < W16_MIN_AVG_BYTES:
        raise _invalid(f"w16-v1: avg is at least {W16_MIN_AVG_BYTES} bytes, not {spec.avg_bytes}", "w16-v1")
    if spec.avg_bytes & (spec.avg_bytes - 1):
        raise _invalid(f"w16-v1: avg is a power of two, not {spec.avg_bytes}", "w16-v1")


_CHECKS = {
    "fixed-v1": _check_fixed,
    "delimiter-v1": _check_delimiter,
    "fastcdc-v1": _check_fastcdc,
    "w16-v1": _check_w16,
}


def _parse_size(part: str, value: str, text: str) -> int:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise _invalid(f"{part} in a chunker spec is a whole number of B, KiB or MiB, not {value[:40]!r}", text)
    return int(match[1]) * _UNITS[(match[2] or "").lower()]


def _parse_hex(value: str, text: str) -> bytes:
    if len(value) % 2 or not re.fullmatch(r"[0-9a-fA-F]*", value):
        raise _invalid(f"the delimiter in a chunker spec is written in hex, not {value[:40]!r}", text)
    return bytes.fromhex(value)


def _invalid(message: str, subject: str) -> InvalidInput:
    hint = f"Write one of {', '.join(_SHAPES.values())}, or a preset: {', '.join(_PRESET_SIZES)}."
    return InvalidInput(message, operation="chunker spec", subject=subject[:120], hint=hint)


_PRESET_SIZES = {
    "balanced": (256 * KIB, 1 * MIB, 4 * MIB),
    "speed": (512 * KIB, 2 * MIB, 8 * MIB),
    "dedup": (64 * KIB, 256 * KIB, 1 * MIB),
    "small": (16 * KIB, 64 * KIB, 256 * KIB),
}

PRESETS: Mapping[str, ChunkerSpec] = MappingProxyType(
    {name: ChunkerSpec("w16-v1", *sizes) for name, sizes in _PRESET_SIZES.items()}
)
"""Named specs: `balanced` for one object per block, `speed` for large media, `dedup` and `small` for more savings."""

DEFAULT_SPEC = PRESETS["balanced"]
"""1 MiB blocks: large enough that one file or object per block is cheap; measured in `docs/formats/chunkers.md`."""
