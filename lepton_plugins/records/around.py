"""The part `around` of a plan file: what stands around the policy, whichever it is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lepton_plugins.records.quantity import Seconds
from lepton_plugins.records.record import SpecRecord, VersionNumber, Versions


class Sticky(SpecRecord):
    """The same unit (a customer, a session) gets the same arm as long as shares allow."""

    key: str
    """The column (or, for a whole request, the header x-lepton-key) that names the unit."""


class Breaker(SpecRecord):
    """When an arm is left out for a while; the default arm never is."""

    failures: Annotated[int, Field(ge=1)] = 10
    """So many failed calls in a row."""
    wait: Seconds = 10.0
    """How long until one call tries it again; twice as long after each trial that fails."""


class Degrade(SpecRecord):
    """What happens when an arm has too much to do: a cheaper one answers, and the decision says so.

    Needs `resources.slo.p99`, or a limit of calls for an arm.
    """

    to: VersionNumber | None = None
    """The arm that answers then; default: the one whose rows cost least by the reports."""
    concurrency: dict[VersionNumber, Annotated[int, Field(ge=1)]] = {}
    """Calls that an arm may have at once; the next goes to the cheaper arm. Workers of one server share them alike,
    each has at least one."""
    enter: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Rows move when their answers are expected later than this part of the p99."""
    leave: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Once rows move, others stay only if they are expected within this part of the p99."""
    hold: Seconds = 1.0
    """How long no row must have moved until `enter` counts again."""

    @model_validator(mode="after")
    def _apart(self) -> Degrade:
        if self.leave >= self.enter:
            raise ValueError(
                f"found leave {self.leave:g} and enter {self.enter:g}, expected a leave below enter: what lies "
                f"between them keeps traffic from fluttering"
            )
        return self


class Around(SpecRecord):
    """The wrappers around the policy: guard → holdout → sticky → explore → policy → degrade → fallback; shadow
    beside."""

    guard: Literal["open", "token", "closed"] = "open"
    """Who may force a version: anyone, holders of the token, nobody."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of units that always get the default arm, for an honest comparison."""
    explore: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of units whose arm is drawn from all versions alike, which all run then: `lepton replay` can tell from
    them what other plans would have done."""
    sticky: Sticky | None = None
    """What keeps a unit with its arm; absent: each request is drawn anew."""
    shadow: Versions = ()
    """Versions that answer beside the chosen one, their answers discarded; they get no share."""
    degrade: Degrade | None = None
    """When an arm has too much to do, a cheaper one answers: `{}` takes what is usual. Absent: never."""
    fallback: VersionNumber | None = None
    """The arm that answers when the chosen one can't, before the default arm. Where that can't either, the request
    fails: 500 where one of them failed by itself, 503 or 504 where all are away or too slow."""
    timeout: Seconds | None = None
    """How long an arm may take before the fallback answers."""
    breaker: Breaker | None = Breaker()
    """When an arm that fails is left out for a while; null: never."""
