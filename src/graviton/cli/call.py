"""`Call`: what every command gets as its first argument: output, settings, and the store they name."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from graviton.cli.output import Output

if TYPE_CHECKING:
    from graviton.assembly.settings import Settings
    from graviton.assembly.store import Store
    from graviton.ports.any_store import AnyStore

__all__ = ["Call"]


class Call:
    """One invocation of the command line."""

    def __init__(self) -> None:
        self.out = Output()
        self.root: Path | None = None
        """The store's folder as given with --root; None leaves it to the environment."""
        self.url: str | None = None
        """The address of a server, as given with --url; None leaves it to the environment."""
        self.lock_wait: float | None = None
        """Seconds, as given with --lock-wait."""
        self.debug = False
        self._settings: Settings | None = None
        self._any_settings: Settings | None = None

    def settings(self) -> Settings:
        """Settings of the store itself: environment, --root and --lock-wait; prints their warnings once. Raises
        ConfigError."""
        if self._settings is None:
            from graviton.assembly.settings import settings_from

            found = settings_from(os.environ, self.root)
            self._settings = found if self.lock_wait is None else found._replace(lock_wait_seconds=self.lock_wait)
            self._warn(self._settings)
        return self._settings

    def any_settings(self) -> Settings:
        """Settings of the server that --url names, or GRAVITON_URL unless there is a --root; else those of the store
        itself. Raises ConfigError."""
        if self._any_settings is None and (self.url is not None or self.root is None):
            from graviton.assembly.settings import client_settings_from

            self._any_settings = client_settings_from(os.environ, self.url)
            if self._any_settings is not None:
                self._warn(self._any_settings)
        return self._any_settings or self.settings()

    def _warn(self, settings: Settings) -> None:
        for warning in settings.warnings:
            self.out.warn(warning)

    @asynccontextmanager
    async def store(self, settings: Settings | None = None) -> AsyncIterator[Store]:
        """The store that `settings`, else those of this call, name, for `async with`. Touches nothing until it is used;
        what only reads calls `required` on it first, which says where there is no store. Raises ConfigError."""
        from graviton.assembly.store import Store
        from graviton.concurrency.finishing import finish_anyway

        store = Store(settings or self.settings())
        try:
            yield store
        finally:
            await finish_anyway(store.aclose())  # an interrupt now must not leave half of it open

    @asynccontextmanager
    async def any_store(self, settings: Settings | None = None) -> AsyncIterator[AnyStore]:
        """The same, also behind a URL: for commands that work on both."""
        from graviton.assembly.opening import store_for
        from graviton.concurrency.finishing import finish_anyway

        store = store_for(settings or self.any_settings())
        try:
            yield store
        finally:
            await finish_anyway(store.aclose())

    def show_warnings(self) -> None:
        """From now on print Python warnings (the store's about its chunker, say) as one line like any other."""
        warnings.showwarning = self._show_warning

    def _show_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if self.debug or not issubclass(category, (DeprecationWarning, ResourceWarning)):
            self.out.warn(str(message))
