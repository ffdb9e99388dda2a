"""Whether traces are wanted: OpenTelemetry's own variables, as its specification has them.

The SDK reads the rest of them itself (`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, headers, certificates, queue sizes).
"""

from __future__ import annotations

from collections.abc import Mapping

from graviton.assembly.environment import Reader

__all__ = ["wants_traces"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def wants_traces(environment: Mapping[str, str]) -> bool:
    """Whether these variables ask for traces. Raises ConfigError if they ask for another way of sending them than OTLP
    over HTTP."""
    get = Reader(environment)
    if get.value("OTEL_SDK_DISABLED", str.lower, "") == "true":
        return False
    exporter = get.choice("OTEL_TRACES_EXPORTER", ("otlp", "none"), "")
    if exporter == "none" or not (exporter or any(get.value(name, str, "") for name in _ENDPOINTS)):
        return False
    for name in _PROTOCOLS:
        get.choice(name, ("http/protobuf",), "")
    return True
