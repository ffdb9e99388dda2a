"""What OPTIONS says of every path that does not say it itself: all its methods. The framework's own answer to it knows
those of the first route of a path only."""

from __future__ import annotations

from collections.abc import Iterable

from litestar import Response, route
from litestar.handlers import HTTPRouteHandler

__all__ = ["options_routes"]


def options_routes(routes: Iterable[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """A route for OPTIONS for each path of `routes` that has none; to be registered before them, or the framework adds
    its own."""
    methods: dict[str, set[str]] = {}
    for one in routes:
        for path in one.paths:
            methods.setdefault(path, set()).update(str(method) for method in one.http_methods)
    return [_says(path, sorted({*known, "OPTIONS"})) for path, known in methods.items() if "OPTIONS" not in known]


def _says(path: str, methods: list[str]) -> HTTPRouteHandler:
    @route(path, http_method=["OPTIONS"], status_code=204)
    async def describe() -> Response[None]:
        return Response(None, status_code=204, headers={"allow": ", ".join(methods)})

    return describe
