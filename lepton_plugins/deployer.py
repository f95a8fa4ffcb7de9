"""What a deployer is: it puts a deployment directory where it serves, and looks after it there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from lepton_plugins.errors import CannotDeploy, DeploymentFailed, InvalidInput


class Deployer(Protocol):
    """Deployments of a target's, each known by its name. Every refusal is a LeptonError.

    Made by callable(place: str): what stands behind the target in its URI, a namespace such as, or "".
    `deployment` gives the deployment directory, which may be fetched only then: it is called once, after all that
    can be refused without it. `options` are what `-C name=value` says: those of the target, and the deployer's own;
    one that neither knows is an InvalidInput. What is known of a deployment has a `name` and whatever else helps.
    """

    #: What a user reads of it: the place, the deployer's own options, an example.
    help: str

    def create(self, name: str, deployment: Callable[[], Path], options: Mapping[str, str]) -> Mapping[str, Any]:
        """Deploy under a new name and wait until it is ready; what is known of it. DeploymentExists."""
        ...

    def update(self, name: str, deployment: Callable[[], Path], options: Mapping[str, str]) -> Mapping[str, Any]:
        """Put another plan, or the same with other options, in its place. DeploymentNotFound."""
        ...

    def get(self, name: str) -> Mapping[str, Any]:
        """What is known of it. DeploymentNotFound."""
        ...

    def list(self) -> Sequence[Mapping[str, Any]]:
        """What is known of each."""
        ...

    def delete(self, name: str, options: Mapping[str, str]) -> None:
        """Take it away; one that isn't there is no error."""
        ...

    def predict(self, name: str, instances: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """Answers to rows of JSON values, one each. DeploymentNotFound, DeploymentFailed."""
        ...

    def run_local(self, name: str, deployment: Callable[[], Path], options: Mapping[str, str]) -> None:
        """Serve on this machine until interrupted."""
        ...


def open_deployer(target: str, place: str = "") -> Deployer:
    """What deploys what this target renders. UnknownPlugin, CannotDeploy."""
    from lepton_plugins.plugins import plugins

    offer = plugins().offer("target", target)
    made = getattr(offer, "deployer", None)
    if made is None:
        able = [name for name, other in plugins().offers("target").items() if getattr(other, "deployer", None)]
        raise CannotDeploy(target, able)
    opened: Deployer = offer.model_copy(update={"target": made}).load()(place)
    return opened


def predict_over_v1(
    name: str,
    url: str,
    instances: Sequence[Mapping[str, Any]],
    *,
    model: str | None = None,
    ingress: str | None = None,
    hint: str = "",
) -> Sequence[Any]:
    """What the server at `url` answers to rows over V1; DeploymentFailed.

    `model` is by default `name`; `ingress` is another address at which the host of `url` is reached.
    """
    headers = {"content-type": "application/json"}
    if ingress is not None:
        headers["host"] = urlsplit(url).netloc
    body = json.dumps({"instances": instances}).encode()
    request = Request(f"{(ingress or url).rstrip('/')}/v1/models/{model or name}:predict", body, headers)
    try:
        with urlopen(request, timeout=60) as answer:
            found: Sequence[Any] = json.load(answer)["predictions"]
    except HTTPError as error:
        said = error.read(1000).decode("utf-8", "replace")
        raise DeploymentFailed(name, f"{error.code}: {' '.join(said.split())[:500]}") from None
    except OSError as error:
        told = f" {hint}." if hint else ""
        raise DeploymentFailed(name, f"{url} can't be reached from here ({error}).{told}") from None
    return found


def seconds_of(text: str) -> float:
    """`-C timeout=…` in seconds."""
    from lepton_plugins.records.quantity import parse_seconds

    try:
        return float(str(parse_seconds(text)))
    except ValueError:
        raise InvalidInput(f"-C timeout={text}: expected seconds, or a duration such as 10min.") from None
