"""A store behind a URL: the client of Graviton's HTTP server, as a store like any other.

`HttpBlobStore` is the way in. What it speaks: docs/guides/http-api.md, docs/uploads.md; what it does when the network
or the server fails: docs/guides/client.md. aiohttp is imported on use.
"""

from __future__ import annotations

from graviton.backends.http.blobs import HttpBlobStore
from graviton.backends.http.config import HttpConfig
from graviton.backends.http.puts import HttpDefaults

__all__ = ["HttpBlobStore", "HttpConfig", "HttpDefaults"]
