"""`graviton serve`: HTTP in front of the store, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graviton.cli.call import Call
from graviton.cli.options import PathText, WorksOn, command
from graviton.errors import ConfigError

if TYPE_CHECKING:
    from graviton.assembly.server_settings import ServerSettings
    from graviton.assembly.services import Services
    from graviton.backends.prometheus import PrometheusMetrics
    from graviton.server.tracing import Tracing

__all__ = ["serve"]

_PACKAGES = ("granian", "litestar", "msgspec", "prometheus_client")


@command(works_on=WorksOn.NOTHING)
@click.option("--host", metavar="ADDRESS", help="Where to listen (GRAVITON_HTTP_HOST, 127.0.0.1).")
@click.option("--port", metavar="N", help="At which port (GRAVITON_HTTP_PORT, 8081); 0 takes one that is free.")
@click.option("--workers", metavar="N", help="Processes (GRAVITON_HTTP_WORKERS, 1).")
@click.option("--tls-cert", type=PathText(), metavar="FILE", help="Certificates, PEM (GRAVITON_HTTP_TLS_CERT).")
@click.option("--tls-key", type=PathText(), metavar="FILE", help="Their key, PEM (GRAVITON_HTTP_TLS_KEY).")
@click.option("--insecure", is_flag=True, help="Listen beyond this machine although there is no token.")
@click.option("--grace", metavar="SECONDS", help="How long requests may go on when it is told to stop (30).")
@click.option("--metrics-folder", type=PathText(), hidden=True, help="Where workers count together.")
@click.option("--worker", type=int, hidden=True, help="Be one of the workers of another process.")
async def serve(call: Call, worker: int | None, metrics_folder: str | None, **options: Any) -> int:
    """Answer HTTP requests until it is told to stop.

    Without GRAVITON_API_TOKEN it listens on this machine only. SIGTERM or Ctrl-C: what runs may end, nothing new is
    accepted; a second one ends everything at once. Addresses of its documentation: /api/docs.
    """
    from graviton.server.places import check_tls, reserve_port

    _check_packages()
    settings = _settings(options)
    settings.check()
    check_tls(settings)
    if worker is not None and metrics_folder is not None:
        return await _be_worker(call, settings, worker, metrics_folder)
    reserved = reserve_port(settings.host, settings.port)
    with reserved:
        port: int = reserved.getsockname()[1]
        if settings.workers > 1:
            return await _with_workers(call, settings, port)
        from graviton.backends.prometheus import PrometheusMetrics
        from graviton.server.run import serve as run

        async with _observed(call, settings, PrometheusMetrics()) as (services, tracing):
            announce = partial(_announce, call, services, settings, port)
            return await run(services, settings, port, announce, tracing=tracing)


@asynccontextmanager
async def _observed(
    call: Call, settings: ServerSettings, metrics: PrometheusMetrics
) -> AsyncIterator[tuple[Services, Tracing]]:
    """The services of this process, and what is told about them: metrics, logs, traces."""
    from graviton.assembly.log_settings import log_settings_from
    from graviton.assembly.services import open_services
    from graviton.constraints.process import keep_freed_memory
    from graviton.core.secret import secrets_in
    from graviton.server.logs import Logs
    from graviton.server.tracing import tracing_from

    store_settings = call.settings()
    keep_freed_memory(store_settings.memory_bytes)
    log_settings, tracing = log_settings_from(os.environ), tracing_from(os.environ)
    try:
        store_settings = store_settings._replace(limits=store_settings.limits.divided(settings.workers))
        async with open_services(
            store_settings,
            metrics=metrics,
            tracer=tracing.tracer,
            upload_lifetime_seconds=settings.upload_lifetime_seconds,
            upload_max_open=settings.upload_max_open,
        ) as services:
            with Logs(log_settings, metrics=metrics, secrets=secrets_in((settings, store_settings))):
                yield services, tracing
    finally:
        await tracing.aclose()


def _check_packages() -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the server needs {', '.join(missing)}, and it is not installed",
            operation="serve",
            subject=missing[0],
            hint="Install it: pip install 'graviton[server]'.",
        )


def _settings(options: dict[str, Any]) -> ServerSettings:
    from graviton.assembly.server_settings import (
        parse_grace,
        parse_host,
        parse_port,
        parse_workers,
        server_settings_from,
    )
    from graviton.cli.options import parsed

    settings = server_settings_from(os.environ)._replace(insecure=options["insecure"])
    parsers: dict[str, Any] = {
        "host": ("host", parse_host),
        "port": ("port", parse_port),
        "workers": ("workers", parse_workers),
        "tls_cert": ("tls_cert", Path),
        "tls_key": ("tls_key", Path),
        "grace": ("grace_seconds", parse_grace),
    }
    for option, (field, parse) in parsers.items():
        if options[option] is not None:
            name = "--" + option.replace("_", "-")
            settings = settings._replace(**{field: parsed(name, parse, options[option])})
    return settings


async def _with_workers(call: Call, settings: ServerSettings, port: int) -> int:
    """Look at the store once, which makes it unless it is there, then leave it to the workers."""
    from graviton.assembly.services import open_services
    from graviton.backends.prometheus import WorkerFolder
    from graviton.server.workers import Workers

    async with open_services(call.settings()) as services:
        if not services.store.capabilities.multi_process:
            raise ConfigError(
                f"this store is for one process at a time (its metadata is {call.settings().metadata}, its blocks"
                f" {call.settings().blob_backend}), and {settings.workers} workers were asked for",
                operation="serve",
                subject="GRAVITON_HTTP_WORKERS",
                hint="Use one worker, or metadata in SQLite or PostgreSQL: `graviton meta copy` moves them.",
            )
    with WorkerFolder.make() as folder:
        command = _worker_command(call, settings, port, folder.path)
        workers = Workers(command, settings.workers, settings.grace_seconds, call.out.warn, folder.ended)
        return await workers.run(partial(_announce, call, services, settings, port))


def _worker_command(call: Call, settings: ServerSettings, port: int, metrics_folder: Path) -> list[str]:
    """The command line of a worker, but for its number. What is secret goes by the environment."""
    words = [sys.executable, "-m", "graviton.cli.main", "serve", "--quiet"]
    if call.root is not None:
        words += ["--root", str(call.root)]
    if call.lock_wait is not None:
        words += ["--lock-wait", str(call.lock_wait)]
    words += ["--host", settings.host, "--port", str(port), "--workers", str(settings.workers)]
    if settings.tls_cert is not None:
        words += ["--tls-cert", str(settings.tls_cert), "--tls-key", str(settings.tls_key)]
    if settings.insecure:
        words.append("--insecure")
    words += ["--metrics-folder", str(metrics_folder)]
    return [*words, "--grace", f"{settings.grace_seconds:.0f}", "--worker"]


async def _be_worker(call: Call, settings: ServerSettings, number: int, metrics_folder: str) -> int:
    from graviton.backends.prometheus import keep_fresh, worker_metrics
    from graviton.server.run import serve as run
    from graviton.server.workers import READY, parent_gone

    def announce() -> None:
        os.write(1, READY)

    metrics = worker_metrics(Path(metrics_folder), number)
    async with _observed(call, settings, metrics) as (services, tracing):
        refreshing = asyncio.ensure_future(keep_fresh(metrics))
        try:
            return await run(services, settings, settings.port, announce, tracing=tracing, orphaned=parent_gone())
        finally:
            refreshing.cancel()


def _announce(call: Call, services: Services, settings: ServerSettings, port: int) -> None:
    """Tell where it listens, on what, and who may come."""
    from graviton._version import __version__
    from graviton.assembly.metadata_side import metadata_place
    from graviton.server.places import url_of

    url, kernel = url_of(settings, port), services.store.kernel
    blocks, metadata = services.store.sides.markers.where, metadata_place(call.settings())
    doors = "whoever has the token" if settings.token is not None else "everybody on this machine"
    if settings.token is None and settings.insecure:
        doors = "EVERYBODY who reaches it"
    call.out.result(
        f"graviton {__version__} listens on {url}\n"
        f"  blocks    {blocks}\n"
        f"  metadata  {metadata}\n"
        f"  kernel    {kernel.name} ({kernel.simd})\n"
        f"  workers   {settings.workers}\n"
        f"  open to   {doors}; documentation at {url}/api/docs",
        listening=url,
        host=settings.host,
        port=port,
        blocks=blocks,
        metadata=metadata,
        kernel=kernel.name,
        workers=settings.workers,
        token=settings.token is not None,
        version=__version__,
    )
    call.out.flush()
