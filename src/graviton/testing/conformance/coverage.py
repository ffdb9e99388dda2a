"""Which implementations there are, and which of them no contract tests: the guard against a store outside the suite."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from graviton.testing.conformance.contract import Contract

__all__ = ["Implementation", "all_contracts", "implementations", "modules_below", "ports", "untested"]


class Implementation(NamedTuple):
    """A concrete class and a port it implements."""

    port: type
    cls: type

    def __str__(self) -> str:
        return f"{self.cls.__module__}.{self.cls.__qualname__} ({self.port.__name__})"


def modules_below(package: str) -> Iterator[str]:
    """Names of the modules of a package, itself included; imports it and its subpackages.

    A backend whose driver is not installed ends the search of that subpackage only: it cannot be used here either.
    """
    yield package
    found = importlib.import_module(package)
    for module in pkgutil.iter_modules(getattr(found, "__path__", []), package + "."):
        try:
            yield from modules_below(module.name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("graviton"):
                raise


def ports() -> set[type]:
    """The abstract classes of `graviton.ports`, whose laws contracts check."""
    return {
        cls
        for module in modules_below("graviton.ports")
        for _, cls in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if cls.__module__ == module and inspect.isabstract(cls)
    }


def implementations(packages: Iterable[str], wanted: set[type]) -> set[Implementation]:
    """Concrete public classes defined below `packages`, once for each of the `wanted` ports they implement."""
    found: set[Implementation] = set()
    for module in (module for package in packages for module in modules_below(package)):
        for name, cls in inspect.getmembers(importlib.import_module(module), inspect.isclass):
            if cls.__module__ == module and not name.startswith("_") and not inspect.isabstract(cls):
                found.update(Implementation(port, cls) for port in wanted if issubclass(cls, port))
    return found


def all_contracts(root: type[Contract[Any]] = Contract) -> set[type[Contract[Any]]]:
    """Every contract class for an implementation that was imported so far."""
    found = {cls for cls in root.__subclasses__() if cls.implementation is not None}
    return found.union(*(all_contracts(cls) for cls in root.__subclasses__()))


def untested(found: Iterable[Implementation], contracts: Iterable[type[Contract[Any]]]) -> list[Implementation]:
    """The implementations for which no contract of their port (or of one that extends it) was written."""
    tested = {(cls.implementation, port) for cls in contracts for port in cls.port.__mro__}
    return sorted((one for one in found if (one.cls, one.port) not in tested), key=str)
