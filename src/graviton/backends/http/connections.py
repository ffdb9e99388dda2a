"""Connections to the server: how they are made, what they trust, and for how long they are kept.

aiohttp repeats a request by itself on a connection that was kept and turns out to be closed. That is harmless for most,
and would make the answer to a DELETE a lie; so those go over connections of their own.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

from graviton._version import __version__
from graviton.backends.http.config import HttpConfig
from graviton.backends.http.outgoing import Outgoing

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Connections"]

_READ_BYTES: Final = 256 * 1024
"""aiohttp reads on until twice as much waits for us."""

_CONTINUE_SECONDS: Final = 20.0
"""How long a body waits for the server to say that it wants it. Ours does so when it has a slot, for which it waits ten
seconds; what stands between may have swallowed its word, so then the body is sent unasked."""

_KEEP_SECONDS: Final = 5.0
"""How long a connection is kept for the next request; servers and proxies close idle ones after ten seconds or more."""


class Connections:
    """Those of one store, made on the event loop that first asks."""

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self._kept: aiohttp.ClientSession | None = None
        self._single: aiohttp.ClientSession | None = None

    def kept(self) -> aiohttp.ClientSession:
        """Whose connections serve one request after the other."""
        if self._kept is None:
            self._kept = self._session(keepalive_timeout=_KEEP_SECONDS)
        return self._kept

    def single(self) -> aiohttp.ClientSession:
        """Whose connections serve one request each."""
        if self._single is None:
            self._single = self._session(force_close=True)
        return self._single

    def _session(self, **keeping: Any) -> aiohttp.ClientSession:
        import aiohttp

        config = self._config
        authorities = ssl.create_default_context() if config.is_encrypted else True
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(self._note_sent)
        # As many connections as there are operations: one that waits for another's to end could wait for itself.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=authorities, **keeping),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=2 * config.connect_seconds,
                sock_connect=config.connect_seconds,
                sock_read=config.idle_seconds,
            ),
            proxy=None if config.proxy is None else config.proxy.reveal(),
            headers={"User-Agent": f"graviton/{__version__}", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
            trace_configs=[trace],
        )

    async def _note_sent(self, session: object, context: Any, sent: object) -> None:
        """aiohttp says that the head of a request goes out."""
        out = context.trace_request_ctx
        assert isinstance(out, Outgoing)
        out.may_be_whole = out.may_be_whole or not out.has_bytes
        if out.is_asking:
            out.put_off(min(_CONTINUE_SECONDS, self._config.idle_seconds))

    async def aclose(self) -> None:
        """End them. Idempotent."""
        for session in (self._kept, self._single):
            if session is not None:
                await session.close()
        self._kept = self._single = None
