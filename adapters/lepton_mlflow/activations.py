"""Activations: which plan is in force, and the audit trail of how it came to be.

Exactly one of several promotions at the same time wins, in whatever processes they run:

1. Each reads the ledger's list of activations. The last entry says which plan is in force; if that isn't
   the one expected, the caller is told (PlanStale).
2. Each stores its activation as a run and then claims the next number in the list. The database lets one
   claim of a number succeed (`ledger`), so every entry follows the very entry that its author had read:
   the list is a chain, without forks. Who loses deletes its run and is told (PromotionLost); with `force`
   it goes back to 1.
3. The tag `lepton.plan`, the alias and the description on the registered model are derived from the last
   entry: whoever has appended writes them, then reads the list again, and writes them anew as long as it
   has grown meanwhile. So the last write of all is by someone who, *after* it, still found its entry the
   last: an entry appended later brings later writes of its own. Two writers can delay, never mislead.
4. A process that dies between 2 and 3 leaves a tag that is behind. The next activation, or `repair`, sets
   it from the list before anything else.
"""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import TYPE_CHECKING

from lepton_mlflow.access import Access
from lepton_mlflow.activation_runs import read_activations, write_activation
from lepton_mlflow.champion import set_champion
from lepton_mlflow.experiments import Home, find_home, get_registered_model, make_home
from lepton_mlflow.faults import translate
from lepton_mlflow.ledger import Entry
from lepton_mlflow.model_text import describe_model
from lepton_mlflow.names import PLAN
from lepton_mlflow.plans import PLANS, Plans, find_revision
from lepton_mlflow.upsert import upsert
from lepton_plugins.errors import (
    LeptonError,
    PlanNotFound,
    PlanStale,
    PromotionLost,
    PromotionUnpublished,
    RecordMismatch,
)
from lepton_plugins.records.plan import Activation, PlanRevision

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger("lepton_mlflow")

#: The ledger's list of activations.
ACTIVATIONS = "activation"


class Activations:
    """Puts plans in force and tells which one is."""

    def __init__(self, access: Access, plans: Plans) -> None:
        self._access = access
        self._plans = plans

    def in_force(self, model: str) -> PlanRevision | None:
        """The revision that the model's tag names, checked against the ledger; None if no plan is in force."""
        with self._access.doing(f"read the plan in force of {model!r}") as client:
            named = read_plan_tag(model, get_registered_model(client, model).tags or {})
            if named is None:
                return None
            home = find_home(client, model)
            revision = find_revision(home, model, named["digest"]) if home else None
            if revision is None or revision.run_id != named["run_id"]:
                raise RecordMismatch(
                    f"The tag {PLAN} of {model!r}", f"plan {named['digest'][:19]}…", "a plan stored in this registry"
                )
            return revision

    def activate(self, activation: Activation, expected: str | None, *, force: bool) -> Activation:
        """Put a stored plan in force. See the module's text for what happens when two do so at once."""
        model = activation.model
        with self._access.doing(f"put a plan of {model!r} in force") as client:
            home = make_home(self._access, client, model)
            revision = find_revision(home, model, activation.to_digest)
            if revision is None:
                raise PlanNotFound(model, activation.to_digest[:19])
            while True:
                last = self._last(client, home, model)
                current = str(last.value["to_digest"]) if last else None
                if current != expected and not force:
                    raise PlanStale(
                        model, _name(home, activation.to_digest), _name(home, expected), _name(home, current)
                    )
                entry = activation.model_copy(
                    update={
                        "from_digest": current,
                        "to_number": revision.number,
                        "forced": current != expected,
                        "run_id": None,
                    }
                )
                number = last.number + 1 if last else 1
                written = write_activation(client, home, entry, number)
                if home.ledger.claim(ACTIVATIONS, number, written):
                    break
                client.delete_run(str(written["run_id"]))
                if not force:
                    winner = self._last(client, home, model)
                    raise PromotionLost(
                        model,
                        _name(home, activation.to_digest),
                        _name(home, str(winner.value["to_digest"]) if winner else None),
                    )
            try:
                self._publish(client, home, model, Entry(number, written))
            except Exception as error:  # The entry stands: the plan is in force, and who asked must know.
                failure = translate(error, self._access.shown_uri, "write its tag")
                raise PromotionUnpublished(model, _name(home, activation.to_digest), str(failure)) from error
        return entry.model_copy(update={"run_id": str(written["run_id"])})

    def list_activations(self, model: str) -> list[Activation]:
        """Oldest first."""
        with self._access.doing(f"list the activations of {model!r}") as client:
            get_registered_model(client, model)
            home = find_home(client, model)
            return read_activations(client, home, model, home.ledger.entries(ACTIVATIONS)) if home else []

    def repair(self, model: str, *, dry_run: bool = False) -> list[str]:
        """Set tag, alias and description of a registered model from its ledger; tells what was wrong."""
        with self._access.doing(f"repair what Lepton derived for {model!r}") as client:
            registered = get_registered_model(client, model)
            home = find_home(client, model)
            last = entries[-1] if home and (entries := home.ledger.entries(ACTIVATIONS)) else None
            if home is None or last is None:
                return []
            found = []
            if not _published(model, registered.tags or {}, last):
                found.append(
                    f"tag {PLAN} of {model!r} didn't name the plan in force, {_name(home, last.value['to_digest'])}"
                )
            default = self._plans.get(_revision(home, model, last))[0].default
            if (alias := set_champion(client, model, default, dry_run=True)) is not None:
                found.append(alias)
            if found and not dry_run:
                self._publish(client, home, model, last)
        return found

    def _last(self, client: MlflowClient, home: Home, model: str) -> Entry | None:
        """The entry in force; a tag that is behind it is set first."""
        entries = home.ledger.entries(ACTIVATIONS)
        if not entries:
            return None
        if not _published(model, get_registered_model(client, model).tags or {}, entries[-1]):
            self._publish(client, home, model, entries[-1])
        return entries[-1]

    def _publish(self, client: MlflowClient, home: Home, model: str, entry: Entry) -> None:
        """Write what is derived from the last entry, until it still is the last one after writing."""
        while True:
            revision = _revision(home, model, entry)
            tag = {
                "schema_version": 1,
                "model": model,
                "digest": revision.digest,
                "run_id": revision.run_id,
                "number": revision.number,
                "activation": entry.value["run_id"],
            }
            text = json.dumps(tag, sort_keys=True)
            upsert(partial(client.set_registered_model_tag, model, PLAN, text))
            self._show(client, home, model, revision)
            newest = home.ledger.entries(ACTIVATIONS)[-1]
            if newest.number == entry.number:
                return
            entry = newest

    def _show(self, client: MlflowClient, home: Home, model: str, revision: PlanRevision) -> None:
        """Alias and description: for people; a plan whose files are out of reach is in force all the same."""
        try:
            plan, _ = self._plans.get(revision)
        except LeptonError as error:
            logger.debug("alias and description of %r stay as they are: %s", model, error)
            return
        set_champion(client, model, plan.default)
        describe_model(client, home.experiment_id, revision, plan)


def read_plan_tag(model: str, tags: dict[str, str]) -> dict[str, str] | None:
    """The tag's value; None without one, RecordMismatch if it isn't this model's."""
    text = tags.get(PLAN)
    if text is None:
        return None
    where, expected = f"The tag {PLAN} of {model!r}", f"a plan of {model!r}"
    try:
        value = json.loads(text)
        named = {key: str(value[key]) for key in ("model", "digest", "run_id", "number", "activation")}
    except (ValueError, TypeError, KeyError):
        raise RecordMismatch(where, f"something unreadable ({text[:40]!r})", expected) from None
    if named["model"] != model:
        raise RecordMismatch(where, f"a plan of {named['model']!r}", expected)
    return named


def _published(model: str, tags: dict[str, str], entry: Entry) -> bool:
    try:
        named = read_plan_tag(model, tags)
    except RecordMismatch:
        return False
    return named is not None and named["activation"] == entry.value["run_id"]


def _revision(home: Home, model: str, entry: Entry) -> PlanRevision:
    found = find_revision(home, model, str(entry.value["to_digest"]))
    if found is None:
        raise PlanNotFound(model, str(entry.value["to_digest"])[:19])
    return found


def _name(home: Home, digest: str | None) -> str:
    """A plan as people call it: `#3 1a2b3c4d5e6f`."""
    if digest is None:
        return "no plan"
    found = next((entry for entry in home.ledger.entries(PLANS) if entry.value["digest"] == digest), None)
    short = digest.removeprefix("sha256:")[:12]
    return f"#{found.number} {short}" if found else short
