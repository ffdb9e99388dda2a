"""`graviton serve`: the HTTP server."""

from __future__ import annotations

import click

from graviton.cli.call import Call
from graviton.cli.options import command

__all__ = ["serve"]


@command()
@click.option("--host", metavar="ADDRESS")
@click.option("--port", metavar="N")
async def serve(call: Call, host: str | None, port: str | None) -> int:
    """Answer HTTP requests until it is told to stop."""
    import os

    from graviton.assembly.server_settings import parse_host, parse_port, server_settings_from
    from graviton.assembly.services import open_services
    from graviton.cli.options import parsed
    from graviton.server.run import serve as run

    settings = server_settings_from(os.environ)
    if host is not None:
        settings = settings._replace(host=parsed("--host", parse_host, host))
    if port is not None:
        settings = settings._replace(port=parsed("--port", parse_port, port))
    settings.check()
    import socket

    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind((settings.host, settings.port))
    real = reserved.getsockname()[1]
    async with open_services(call.settings()) as services:

        def announce() -> None:
            url = f"http://{settings.host}:{real}"
            call.out.result(f"listening on {url}", url=url)
            call.out.flush()

        return await run(services, settings, real, announce)
