"""What plugins offer: light records that name their target as an import string, resolved on first use."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from lepton_plugins.errors import PackageMissing, TargetBroken
from lepton_plugins.records.accelerator import Accelerator, MigProfile
from lepton_plugins.records.quantity import Bytes
from lepton_plugins.records.record import Record


def _import_string(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
        raise ValueError(f"found {value!r}, expected an import string such as 'package.module:Name'")
    return value


def _plugin_name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_+.-]{0,63}", value):
        raise ValueError(f"found {value!r}, expected a short lower-case name such as 'segment_best'")
    return value


ImportString = Annotated[str, AfterValidator(_import_string)]
PluginName = Annotated[str, AfterValidator(_plugin_name)]


class Offer(Record):
    """One thing a plugin offers: its name, one line about it, and where it is."""

    name: PluginName
    summary: str
    target: ImportString
    requires: tuple[str, ...] = ()
    """Import names that must be installed before the target can be used."""
    install: str = ""
    """What to run when one of them is missing."""

    def load(self) -> Any:
        """The object behind the import string. PackageMissing or TargetBroken where it can't be had."""
        module, name = self.target.split(":")
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package in self.requires:
                raise PackageMissing(package, f"{self.name!r}", self.install or f"pip install {package}") from error
            raise TargetBroken(self.name, self.target, f"no module {error.name!r}") from error
        except Exception as error:
            raise TargetBroken(self.name, self.target, f"{type(error).__name__}: {error}") from error

    def missing(self) -> tuple[str, ...]:
        """Those of `requires` that aren't installed here; nothing is imported."""
        return tuple(package for package in self.requires if find_spec(package) is None)


class RegistryOffer(Offer):
    """A registry, by URI scheme. Target: callable(uri: str) -> lepton_plugins.registry.Registry."""

    schemes: tuple[str, ...]

    def load(self) -> Any:
        """As any offer's. PackageMissing also where the target itself would import the package only when it is used."""
        for package in self.missing():
            raise PackageMissing(package, f"The registry {self.name!r}", self.install or f"pip install {package}")
        return super().load()


class EvaluatorOffer(Offer):
    """Something that adds to an evaluation. Target: lepton_plugins.evaluation.evaluator.Evaluator."""


class PolicyOffer(Offer):
    """A selection policy. Target: a subclass of lepton_plugins.routing.policy.SelectionPolicy."""


class SolverOffer(Offer):
    """A solver for the allocation. Target: lepton_plugins.planning.solver.Solver."""

    exact: bool = False


class BackendOffer(Offer):
    """What loads and runs a version. Target: lepton_plugins.routing.backend.Backend.

    Backends are asked in order of `priority`, highest first; the first that can run a version does. Where cost
    is measured, a fresh process imports the target: it must stand in a module on Python's path there as well.
    """

    priority: int = 0
    own_environment: bool = False
    """Whether it runs a version with the packages that the version was logged with (its requirements.txt)."""


class TargetOffer(Offer):
    """What a deployment directory is rendered for. Target: lepton_plugins.target.Target."""

    deployer: ImportString | None = None
    """What deploys it: callable(place: str) -> lepton_plugins.deployer.Deployer. None: it is rendered only."""


class StoreOffer(Offer):
    """Where decisions or learning state are kept, by URI scheme.

    Target: callable(uri) -> a lepton_plugins.routing.store.DecisionLog, or for learning state a
    lepton_plugins.routing.learning_state.StateStore.
    """

    schemes: tuple[str, ...]
    holds: Literal["decisions", "state"] = "decisions"
    reader: ImportString | None = None
    """What reads such a log: callable(uri) -> lepton_plugins.routing.store.LogReader. None: it can't be read back."""


class AcceleratorOffer(Offer):
    """A kind of accelerator, as data: there is nothing to import. `memory` of one device and of its MIG profiles."""

    target: ImportString = "lepton_plugins.records.accelerator:Accelerator"
    memory: Annotated[Bytes, Field(gt=0)]
    key: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")]
    """Kubernetes' resource of one device, such as nvidia.com/gpu."""
    mig: dict[str, Annotated[Bytes, Field(gt=0)]] = {}

    def load(self) -> Accelerator:
        """The accelerator; the resource of a profile is `<vendor>/mig-<profile>`."""
        vendor = self.key.partition("/")[0]
        profiles = [
            MigProfile(name=name, memory=memory, key=f"{vendor}/mig-{name}") for name, memory in self.mig.items()
        ]
        return Accelerator(name=self.name, memory=self.memory, key=self.key, mig=tuple(profiles))
