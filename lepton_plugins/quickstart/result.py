"""What a quickstart found, and an honest verdict on it."""

from __future__ import annotations

from lepton_plugins.records.plan import Gain
from lepton_plugins.records.record import Record
from lepton_plugins.records.report import Estimate


class Contender(Record):
    """One way to answer the traffic: the plan, or a single version for every flight."""

    name: str
    summary: str
    share: float
    """Part of the routed traffic that this version answered; 1 for the plan itself."""
    log_loss: Estimate
    auc: Estimate
    """Mean over the flights of the AUC within their carrier: what a ranking of one carrier's flights is worth.
    Pooled over carriers the AUC would compare scores of different versions, which differ in scale."""
    loss_saved: Estimate | None = None
    """This version's log loss minus the routed one, paired by flight; above zero routing is better."""
    auc_gained: Estimate | None = None
    """The routed AUC minus this version's, paired."""
    p50_ms: float
    """Median time of a request for one flight, at the client."""


class PeriodResult(Record):
    """What came out on the traffic of one period."""

    period: str
    flights: int
    late: float
    routed: Contender
    singles: tuple[Contender, ...]

    @property
    def routing_holds(self) -> bool:
        """No single version was shown to have a smaller log loss."""
        return all(single.loss_saved is None or (single.loss_saved.high or 0) >= 0 for single in self.singles)

    @property
    def verdict(self) -> tuple[str, str]:
        """Whether routing was better than every version alone: by log loss, which the plan is made for, and by AUC.

        The opponent is the best version on this very traffic, which nobody knows beforehand.
        """
        opponent = min(self.singles, key=lambda single: single.log_loss.value or 0.0)
        ranker = max(self.singles, key=lambda single: single.auc.value or 0.0)
        return (
            _sentence("Log loss", opponent.name, opponent.loss_saved, "saved", "{:+.4f}"),
            _sentence("AUC within carriers", ranker.name, ranker.auc_gained, "gained", "{:+.3f}"),
        )


def _sentence(metric: str, opponent: str, better_by: Estimate | None, verb: str, form: str) -> str:
    against = f"against {opponent}, the best single version"
    if better_by is None or better_by.value is None or better_by.low is None or better_by.high is None:
        return f"{metric}: can't be told {against}."
    low, value, high = (form.format(figure) for figure in (better_by.low, better_by.value, better_by.high))
    call = "routing won" if better_by.low > 0 else "routing did not win" if better_by.high < 0 else "a tie"
    return f"{metric}: {call} {against}; {verb} {value} [{low}, {high}]."


class QuickstartResult(Record):
    """What a quickstart measured; `seconds` is each step's time."""

    directory: str
    registry: str
    plan: str
    """Digest of the plan in force."""
    default: str
    """Label of the default arm, which the expected gain is against."""
    expected: Gain | None
    """What the plan promised, cross-fitted on the evaluation's flights."""
    evaluated_on: str
    evaluated_late: float
    """Part of the evaluation's flights that came late."""
    periods: tuple[PeriodResult, ...]
    seconds: dict[str, float]

    @property
    def promise(self) -> str:
        """What the plan expected before any of this traffic was there."""
        if self.expected is None or self.expected.low is None or self.expected.high is None:
            return "The plan expected no gain."
        interval = f"[{self.expected.low:+.4f}, {self.expected.high:+.4f}]"
        return (
            f"Made from {self.evaluated_on}, the plan expected to save {self.expected.value:+.4f} {interval} "
            f"of log loss against {self.default} alone."
        )

    @property
    def advice(self) -> str | None:
        """What to make of a period in which a single version was better; None if there was none."""
        lost = [period for period in self.periods if not period.routing_holds]
        if not lost:
            return None
        rates = ", ".join(f"{period.late:.0%} in {period.period}" for period in lost)
        return (
            f"The plan rests on {self.evaluated_on}, when {self.evaluated_late:.0%} came late; {rates}. "
            f"Where traffic has changed, evaluate on newer data and plan again."
        )
