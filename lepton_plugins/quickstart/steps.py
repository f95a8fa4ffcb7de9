"""What is going on, for the person who waits: one line a step on stderr, with the time it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class Step:
    """A step in progress; `say` what came out of it, `done` how much of `total` is behind it."""

    def __init__(self, show: Callable[[str], None], title: str) -> None:
        self._show = show
        self._title = title
        self.outcome = ""

    def say(self, outcome: str) -> None:
        """The words that stand behind the title when the step is over."""
        self.outcome = outcome

    def now(self, doing: str) -> None:
        """What is being done at this moment; on a terminal only."""
        self._show(f"{self._title}: {doing}")


class Steps:
    """The quickstart's steps. `seconds` holds each one's time by title."""

    def __init__(self, quiet: bool = False) -> None:
        from rich.console import Console

        self._console: Console = Console(stderr=True, quiet=quiet, highlight=False)
        self.seconds: dict[str, float] = {}

    def note(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A step: a spinner with its title while it lasts, on a terminal; then a line with outcome and time."""
        start = time.perf_counter()
        with self._console.status(title) as status:
            step = Step(status.update, title)
            yield step
        took = time.perf_counter() - start
        self.seconds[title] = took
        said = f": {step.outcome}" if step.outcome else ""
        self._console.print("✓", style="green", end=" ")
        self._console.print(f"{title}{said}", markup=False, soft_wrap=True, end=" ")
        self._console.print(f"({took:.1f} s)", style="dim")
