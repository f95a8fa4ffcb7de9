"""Requirements of several sides as one list: merged, pinned, sorted; a conflict is an error.

Lines are those of pip's requirements files (https://peps.python.org/pep-0508/).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from lepton_plugins.errors import RequirementInvalid, RequirementsConflict

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.specifiers import Specifier
    from packaging.version import Version

#: Where packages come from is the business of whoever installs them: an address never enters an artefact.
_WHERE_FROM = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--trusted-host", "--no-index", "--pre")


def merge(wanted: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """One line a package from what each side wants (side → lines).

    What no side pins is pinned to the version installed here, where the sides allow that one.
    RequirementsConflict names the packages and both sides; RequirementInvalid a line that can't travel.
    """
    from packaging.utils import canonicalize_name

    groups: dict[tuple[str, str], list[tuple[str, Requirement]]] = {}
    for side, lines in wanted.items():
        for line in lines:
            requirement = _parse(side, line)
            if requirement is not None:
                key = (canonicalize_name(requirement.name), str(requirement.marker or ""))
                groups.setdefault(key, []).append((side, requirement))
    conflicts = [found for (name, _), group in sorted(groups.items()) if (found := _conflict(name, group))]
    if conflicts:
        raise RequirementsConflict(conflicts)
    return tuple(_line(name, marker, group) for (name, marker), group in sorted(groups.items()))


def readable(side: str, lines: Iterable[str]) -> list[str]:
    """The lines that name a package, without comments and hashes. RequirementInvalid for one that can't travel."""
    return [str(found) for line in lines if (found := _parse(side, line)) is not None]


def _parse(side: str, line: str) -> Requirement | None:
    """A line as a requirement; None for one that names none."""
    from packaging.requirements import InvalidRequirement, Requirement

    text = line.partition(" #")[0].strip()
    if not text or text.startswith("#") or text.partition("=")[0].split()[0] in _WHERE_FROM:
        return None
    text = text.partition(" --hash")[0].strip().removesuffix("\\").strip()
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise RequirementInvalid(side, text) from None
    if requirement.url is not None:
        raise RequirementInvalid(side, requirement.name + " @ an address")
    return requirement


def _pin(specifier: Specifier) -> Version | None:
    from packaging.version import InvalidVersion, Version

    if specifier.operator not in ("==", "===") or specifier.version.endswith(".*"):
        return None
    try:
        return Version(specifier.version)
    except InvalidVersion:
        return None


def _pins(group: list[tuple[str, Requirement]]) -> list[tuple[str, Version]]:
    return [(side, pin) for side, found in group for item in found.specifier if (pin := _pin(item)) is not None]


def _conflict(name: str, group: list[tuple[str, Requirement]]) -> str | None:
    """`name: version 1 wants …, version 3 wants …`; None where one version can suit all sides."""
    for side, pin in _pins(group):
        for other, requirement in group:
            if not requirement.specifier.contains(pin, prereleases=True):
                return f"{name}: {side} wants =={pin}, {other} wants {requirement.specifier}"
    lows, highs = _bounds(group)
    if lows and highs:
        (low, low_open, low_side, low_text) = max(lows, key=lambda bound: (bound[0], bound[1]))
        (high, high_open, high_side, high_text) = min(highs, key=lambda bound: (bound[0], not bound[1]))
        if low > high or (low == high and (low_open or high_open)):
            return f"{name}: {low_side} wants {low_text}, {high_side} wants {high_text}"
    return None


Bound = tuple["Version", bool, str, str]


def _bounds(group: list[tuple[str, Requirement]]) -> tuple[list[Bound], list[Bound]]:
    """Lower and upper bounds: (version, whether it is excluded itself, side, as written)."""
    from packaging.version import Version

    lows: list[Bound] = []
    highs: list[Bound] = []
    for side, requirement in group:
        for item in requirement.specifier:
            text = str(item)
            if item.operator in (">=", ">", "~="):
                lows.append((Version(item.version), item.operator == ">", side, text))
            if item.operator in ("<=", "<"):
                highs.append((Version(item.version), item.operator == "<", side, text))
            prefix = _prefix(item)
            if prefix:
                if item.operator == "==":
                    lows.append((Version(".".join(map(str, prefix))), False, side, text))
                highs.append((Version(".".join(map(str, (*prefix[:-1], prefix[-1] + 1)))), True, side, text))
    return lows, highs


def _prefix(item: Specifier) -> tuple[int, ...]:
    """What `==1.4.*` and `~=1.4.2` hold fixed: (1, 4)."""
    from packaging.version import Version

    if item.operator == "==" and item.version.endswith(".*"):
        return Version(item.version.removesuffix(".*")).release
    return Version(item.version).release[:-1] if item.operator == "~=" else ()


def _line(name: str, marker: str, group: list[tuple[str, Requirement]]) -> str:
    extras = sorted({extra for _, requirement in group for extra in requirement.extras})
    pins = _pins(group)
    specifiers = {str(item) for _, requirement in group for item in requirement.specifier}
    if pins:
        written = f"=={pins[0][1]}"
    elif here := _installed(name, group):
        written = f"=={here}"
    else:
        written = ",".join(sorted(specifiers))
    return name + (f"[{','.join(extras)}]" if extras else "") + written + (f" ; {marker}" if marker else "")


def _installed(name: str, group: list[tuple[str, Requirement]]) -> str | None:
    try:
        here = version(name)
    except PackageNotFoundError:
        return None
    return here if all(item.specifier.contains(here, prereleases=True) for _, item in group) else None
