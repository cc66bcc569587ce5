"""How far a work of several kinds of steps is, for whoever watches."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with steps done and steps in all."""


class Steps:
    """Counts steps of a work of about `total`, for whoever watches."""

    def __init__(self, watcher: Progress | None, total: int) -> None:
        self.watcher, self.done, self.total = watcher, 0, total

    def tick(self) -> None:
        """One more is done."""
        self.done = min(self.done + 1, self.total)
        if self.watcher is not None:
            self.watcher(self.done, self.total)

    def finish(self) -> None:
        """All is done, whatever was counted."""
        if self.watcher is not None and self.done < self.total:
            self.watcher(self.total, self.total)
