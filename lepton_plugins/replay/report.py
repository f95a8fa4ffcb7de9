"""What a new plan would have earned, as it is shown and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lepton_plugins.display import plain_text
from lepton_plugins.evaluation.interval_text import interval_text
from lepton_plugins.records.record import Record, VersionNumber
from lepton_plugins.records.report import Estimate

if TYPE_CHECKING:
    from rich.console import RenderableType

_SHOWN = 10
_NAMES = {"direct": "direct method", "ips": "IPS", "snips": "SNIPS", "dr": "doubly robust"}


class Unsupported(Record):
    """Decisions in which the new plan may choose a version that the logged one never would have."""

    version: VersionNumber
    segment: str | None
    decisions: int


class OffPolicy(Record):
    """What a new plan would have earned on the decisions of a log; no estimates where `refusal` says why."""

    model: str
    plan: str
    """Digest of the new plan."""
    policy: str
    decisions: int
    rewarded: int
    """Decisions with a reward: the others tell nothing, and are taken to be no different."""
    units: int
    forced: int = 0
    consulted: int = 0
    """Decisions that were made from several versions' answers: they tell nothing of another plan."""
    coverage: float
    """The part of the new plan's choices that the logged one could have made."""
    agreement: float
    """How probable the logged choices are under the new plan, on average."""
    effective_size: float
    """How many units of equal weight would tell as much, by the weights that came up or fewer by those to expect."""
    logged: Estimate | None = None
    """What was earned."""
    estimates: dict[str, Estimate] = {}
    difference: Estimate | None = None
    """Of the doubly robust estimate to what was earned, on the same decisions."""
    unsupported: tuple[Unsupported, ...] = ()
    refusal: str | None = None
    warnings: tuple[str, ...] = ()
    verdict: str

    def __str__(self) -> str:
        return plain_text(self.table())

    def table(self) -> RenderableType:
        """For a terminal."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        def table(*titles: str) -> Table:
            made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
            for number, title in enumerate(titles):
                made.add_column(title, justify="right" if number else "left", no_wrap=bool(number))
            return made

        parts: list[RenderableType] = []
        if self.logged is not None:
            shown = table("mean reward", "95 % interval")
            shown.add_row("as logged", interval_text(self.logged))
            for name, estimate in self.estimates.items():
                shown.add_row(f"new plan, {_NAMES[name]}", interval_text(estimate))
            if self.difference is not None:
                shown.add_row("difference", interval_text(self.difference))
            parts.append(shown)
        facts = table("decisions", "")
        for title, figure in (
            ("in the log", f"{self.decisions:,}"),
            ("with a reward", f"{self.rewarded:,}"),
            ("units", f"{self.units:,}"),
            ("effective sample size", f"{self.effective_size:,.0f}"),
            ("choices of the new plan that were possible", f"{100 * self.coverage:.4g} %"),
            ("agreement", f"{100 * self.agreement:.3g} %"),
        ):
            facts.add_row(title, figure)
        parts.append(facts)
        if self.unsupported:
            lacking = table("segment", "version", "decisions without support")
            for item in self.unsupported[:_SHOWN]:
                lacking.add_row(Text(item.segment or "–"), item.version, f"{item.decisions:,}")
            parts.append(lacking)
        parts += [Text(f"Note: {warning}") for warning in self.warnings]
        return Group(*parts, "", Text(self.verdict, style="bold"))
