"""What changes between two plans, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from lepton_plugins.records.plan import Arm, DeploymentPlan
from lepton_plugins.records.record import Record

#: A list of changed cells that a person still reads.
_MOST_CELLS = 20


class Change(Record):
    """One change: where it is in the plan, what stood there, what stands there now, and both in words."""

    what: str
    old: Any = None
    new: Any = None
    text: str


class PlanDiff(Record):
    """The changes from one plan to another; none if they serve alike."""

    model: str
    old: str | None
    new: str
    changes: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __str__(self) -> str:
        if not self.changes:
            return f"{self.model}: nothing changes."
        return "\n".join(change.text for change in self.changes)

    def _repr_html_(self) -> str:
        if not self.changes:
            return f"<p>{escape(str(self))}</p>"
        return "<ul>" + "".join(f"<li>{escape(change.text)}</li>" for change in self.changes) + "</ul>"


def diff(old: DeploymentPlan | None, new: DeploymentPlan) -> PlanDiff:
    """What changes for those who are served, from `old` (None: nothing is in force) to `new`."""
    changes = list(_changes(old, new))
    return PlanDiff(
        model=new.model, old=old.digest if old is not None else None, new=new.digest, changes=tuple(changes)
    )


def _changes(old: DeploymentPlan | None, new: DeploymentPlan) -> Iterable[Change]:
    if old is None:
        for arm in new.arms:
            yield Change(what="arms", new=arm.version, text=f"+ version {_name(arm)} joins with {_percent(arm.share)}")
        yield Change(what="policy", new=new.policy.kind, text=f"+ policy {new.policy.kind}")
        yield Change(what="default", new=new.default, text=f"+ default arm {new.default}")
        return
    yield from _arms(old, new)
    yield from _policy(old, new)
    for place in ("default", "output", "per", "topology"):
        yield from _value(place, getattr(old, place), getattr(new, place))
    yield from _value("salt", old.salt, new.salt, shown=False)
    yield from _value("classes", list(old.classes), list(new.classes))
    before, after = old.around.model_dump(mode="json"), new.around.model_dump(mode="json")
    for key in after:
        yield from _value(f"around.{key}", before[key], after[key])
    yield from _signature(old, new)


def _arms(old: DeploymentPlan, new: DeploymentPlan) -> Iterable[Change]:
    for arm in old.arms:
        if new.arm(arm.version) is None:
            yield Change(
                what="arms", old=arm.version, text=f"- version {_name(arm)} leaves; it had {_percent(arm.share)}"
            )
    for arm in new.arms:
        before = old.arm(arm.version)
        if before is None:
            yield Change(what="arms", new=arm.version, text=f"+ version {_name(arm)} joins with {_percent(arm.share)}")
            continue
        place = f"arms.{arm.version}"
        if abs(before.share - arm.share) > 1e-6:
            text = f"~ version {_name(arm)}: share {_percent(before.share)} → {_percent(arm.share)}"
            yield Change(what=f"{place}.share", old=before.share, new=arm.share, text=text)
        for key in ("artifact_digest", "backend", "format", "trust"):
            yield from _value(f"{place}.{key}", getattr(before, key), getattr(arm, key))
        was, becomes = before.resources.model_dump(), arm.resources.model_dump()
        yield from _replicas(before, arm)
        for key in becomes:
            if key == "pools" or (key == "replicas" and was["pools"] != becomes["pools"]):
                continue
            # The CPU follows the share, which is told already.
            if key != "cpu" or abs(before.share - arm.share) <= 1e-6:
                yield from _value(f"{place}.resources.{key}", was[key], becomes[key])


def _replicas(before: Arm, arm: Arm) -> Iterable[Change]:
    was, becomes = before.resources.pools, arm.resources.pools
    for pool in {**was, **becomes}:
        old, new = was.get(pool, 0), becomes.get(pool, 0)
        if old != new:
            text = f"~ version {_name(arm)}: replicas on {pool} {old} → {new}"
            yield Change(what=f"arms.{arm.version}.resources.pools.{pool}", old=old, new=new, text=text)


def _policy(old: DeploymentPlan, new: DeploymentPlan) -> Iterable[Change]:
    yield from _value("policy.kind", old.policy.kind, new.policy.kind)
    if old.policy.kind != new.policy.kind:
        return
    yield from _value("policy.features", list(old.policy.features), list(new.policy.features))
    before, after = _answers(old.policy.document), _answers(new.policy.document)
    cells = [Change(**_cell(key, before.get(key), after.get(key))) for key in {**before, **after}]
    cells = [cell for cell in cells if cell.old != cell.new]
    yield from cells[:_MOST_CELLS]
    if len(cells) > _MOST_CELLS:
        yield Change(what="policy.cells", text=f"~ {len(cells) - _MOST_CELLS} more segments get other answers")
    if not before and not after and old.policy.document != new.policy.document:
        yield Change(what="policy.document", text=f"~ the tables of policy {new.policy.kind} change")
    for key in {**old.policy.params, **new.policy.params}:
        yield from _value(f"policy.params.{key}", old.policy.params.get(key), new.policy.params.get(key))
    files = {file.path: file.digest for file in old.policy.files}, {file.path: file.digest for file in new.policy.files}
    for path in sorted({**files[0], **files[1]}):
        yield from _value(f"policy.files.{path}", files[0].get(path), files[1].get(path))


def _answers(document: Mapping[str, Any]) -> dict[str, str]:
    """What each segment of a table is answered by; empty for policies without cells."""
    cells = document.get("cells")
    if not isinstance(cells, list):
        return {}
    found = {}
    for cell in cells:
        counts: dict[str, int] = {}
        for version, length in cell.get("slots", ()):
            counts[version] = counts.get(version, 0) + length
        total = sum(counts.values()) or 1
        shares = [f"{version} {100 * count / total:.3g} %" for version, count in sorted(counts.items())]
        found[" × ".join(cell["value"])] = next(iter(counts)) if len(counts) == 1 else ", ".join(shares)
    return found


def _cell(key: str, old: str | None, new: str | None) -> dict[str, Any]:
    if old is None:
        text = f"+ segment {key}: version {new}"
    elif new is None:
        text = f"- segment {key}: it had version {old}"
    else:
        text = f"~ segment {key}: version {old} → {new}"
    return {"what": f"policy.cells.{key}", "old": old, "new": new, "text": text}


def _signature(old: DeploymentPlan, new: DeploymentPlan) -> Iterable[Change]:
    before = {field.name: field for field in old.signature.inputs}
    after = {field.name: field for field in new.signature.inputs}
    yield from _value("signature.layout", old.signature.layout, new.signature.layout)
    for name in {**before, **after}:
        was = before[name].model_dump(mode="json") if name in before else None
        becomes = after[name].model_dump(mode="json") if name in after else None
        yield from _value(f"signature.{name}", was, becomes)


def _value(what: str, old: Any, new: Any, *, shown: bool = True) -> Iterable[Change]:
    if old == new:
        return
    text = f"~ {what}: {_text(old)} → {_text(new)}" if shown else f"~ {what} changes: units are assigned anew"
    yield Change(what=what, old=old if shown else None, new=new if shown else None, text=text)


def _text(value: Any) -> str:
    if isinstance(value, dict) and "dtype" in value:
        kind = " (parameter)" if value["parameter"] else "" if value["required"] else " (optional)"
        return f"{value['dtype']} {value['shape']}{kind}"
    if isinstance(value, str) and value.startswith("sha256:"):
        return value[:19] + "…"
    return "none" if value is None or value in ([], {}) else str(value)


def _name(arm: Arm) -> str:
    return f"{arm.version} ({arm.label})" if arm.label else arm.version


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
