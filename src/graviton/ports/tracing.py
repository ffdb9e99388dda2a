"""`Tracer`: what belongs to the trace that is being recorded in this task, if one is.

Laws:
- `span` gives a context. Within it, and in tasks begun within it, further spans are its children.
- Where nothing is being recorded nothing happens, at the price of a look: background work and whatever no caller
  follows makes no traces of its own.
- What is raised within passes through unchanged, and is noted unless it is a cancellation. Neither `span` nor its
  context ever raise, or wait for whoever collects the spans.
- A context is entered and left once, by one task. Many may be open at once, in any number of tasks and threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext

__all__ = ["NoTracer", "Tracer"]


class Tracer(ABC):
    """Where components say how long which step took; see the module docstring for the laws."""

    @abstractmethod
    def span(self, name: str, /, **facts: str | int) -> AbstractContextManager[object]:
        """A step with that name, from a fixed list, and facts about it."""


class NoTracer(Tracer):
    """Records nothing."""

    def span(self, name: str, /, **facts: str | int) -> AbstractContextManager[object]:
        return _NOTHING


_NOTHING = nullcontext()
