"""Where a pod keeps decisions and learning state: which plugins that takes, and that no secret is written."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from lepton_kserve.options import KserveOptions
from lepton_plugins.errors import InvalidInput
from lepton_plugins.plugins import plugins
from lepton_plugins.records.plugin import Offer

#: Kubernetes puts a variable's value into arguments that name it so.
_VARIABLE = re.compile(r"\$\([A-Za-z_][A-Za-z0-9_]*\)")
_SECRETS = ("password", "token", "secret", "key", "sig", "signature", "api_key", "apikey")


def stores_of(o: KserveOptions) -> list[Offer]:
    """The stores behind the options; InvalidInput for an unknown scheme, or a password in the address."""
    found = []
    for option, uri, holds in (("decisions", o.decisions, "decisions"), ("learning", o.learning, "state")):
        _check_open(option, uri)
        offer = plugins().by_scheme("store", uri, holds=holds)
        if offer not in found:
            found.append(offer)
    return found


def _check_open(option: str, uri: str) -> None:
    parts = urlsplit(uri)
    given = [parts.netloc.rpartition("@")[0].partition(":")[2]]
    given += [value for name, value in parse_qsl(parts.query) if name.lower() in _SECRETS]
    if any(value and not _VARIABLE.fullmatch(value) for value in given):
        raise InvalidInput(
            f"--{option}: found a password in the address; manifests are read by many. Name a variable in its place "
            f"and the Secret that has it: --{option} '{parts.scheme}://:$(PASSWORD)@{parts.hostname or 'host'}…' "
            "--env-secret NAME"
        )
