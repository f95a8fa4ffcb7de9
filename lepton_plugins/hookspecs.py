"""The hooks. A plugin is a module (or object) named by an entry point of the group `lepton_plugins`.

    [project.entry-points.lepton_plugins]
    mine = "my_package.plugin"

A hook that offers things returns records; a record names its target as an import string, which is
resolved when somebody uses it. So a plugin's module imports nothing heavy and loads in microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from lepton_plugins import hookspec
from lepton_plugins.records.event import Event
from lepton_plugins.records.plugin import (
    AcceleratorOffer,
    BackendOffer,
    EvaluatorOffer,
    PolicyOffer,
    RegistryOffer,
    SolverOffer,
    StoreOffer,
    TargetOffer,
)


@hookspec
def lepton_registries() -> Sequence[RegistryOffer]:
    """Registries, by URI scheme: where versions, reports, plans and activations live.

    .. versionadded:: 0.1

    A complete plugin::

        from lepton_plugins import hookimpl
        from lepton_plugins.records.plugin import RegistryOffer

        @hookimpl
        def lepton_registries():
            return [
                RegistryOffer(
                    name="acme",
                    summary="Acme's model store",
                    target="acme_lepton.registry:AcmeRegistry",  # called with the URI
                    schemes=("acme",),
                )
            ]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def lepton_evaluators() -> Sequence[EvaluatorOffer]:
    """Evaluators: what adds files or metrics to an evaluation, such as an HTML report.

    .. versionadded:: 0.1

    A complete plugin::

        from lepton_plugins import hookimpl
        from lepton_plugins.records.plugin import EvaluatorOffer

        @hookimpl
        def lepton_evaluators():
            return [
                EvaluatorOffer(
                    name="fairness",
                    summary="Difference of selection rates between groups",
                    target="acme_lepton.fairness:FairnessEvaluator",
                )
            ]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def lepton_policies() -> Sequence[PolicyOffer]:
    """Selection policies: which version answers a request.

    .. versionadded:: 0.1

    A complete plugin::

        from lepton_plugins import hookimpl
        from lepton_plugins.records.plugin import PolicyOffer

        @hookimpl
        def lepton_policies():
            return [
                PolicyOffer(
                    name="office_hours",
                    summary="One version by day, another by night",
                    target="acme_lepton.office_hours:OfficeHours",
                )
            ]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def lepton_solvers() -> Sequence[SolverOffer]:
    """Solvers: which versions run, with which share of the traffic, under the budget.

    .. versionadded:: 0.1

    A complete plugin::

        from lepton_plugins import hookimpl
        from lepton_plugins.records.plugin import SolverOffer

        @hookimpl
        def lepton_solvers():
            return [SolverOffer(name="annealing", summary="Simulated annealing", target="acme_lepton.sa:Annealing")]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def lepton_backends() -> Sequence[BackendOffer]:
    """Backends: what loads the files of a version and runs it.

    .. versionadded:: 0.1

    A complete plugin::

        from lepton_plugins import hookimpl
        from lepton_plugins.records.plugin import BackendOffer

        @hookimpl
        def lepton_backends():
            return [
                BackendOffer(
                    name="treelite",
                    summary="Compiled tree ensembles",
                    target="acme_lepton.treelite:TreeliteBackend",
                    requires=("treelite",),
                    install="pip install treelite",
                    priority=50,
                )
            ]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def lepton_targets() -> Sequence[TargetOffer]:
    """Targets: what a deployment directory is rendered for by `lepton generate`.

    .. versionadded:: 0.1

    One that can also put it where it serves names its deployer (lepton_plugins.deployer) in the same record.

    A complete plugin::

        from lepton_plugins import hookimpl
        from lepton_plugins.records.plugin import TargetOffer

        @hookimpl
        def lepton_targets():
            return [TargetOffer(name="systemd", summary="A systemd unit", target="acme_lepton.systemd:SystemdTarget")]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def lepton_stores() -> Sequence[StoreOffer]:
    """Stores, by URI scheme: where decisions and feedback are kept, or (`holds="state"`) what policies learn.

    .. versionadded:: 0.1

    A complete plugin::

        from lepton_plugins import hookimpl
        from lepton_plugins.records.plugin import StoreOffer

        @hookimpl
        def lepton_stores():
            return [
                StoreOffer(
                    name="kafka",
                    summary="Decisions to a topic",
                    target="acme_lepton.kafka:KafkaDecisionLog",  # called with the URI
                    schemes=("kafka",),
                )
            ]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def lepton_accelerators() -> Sequence[AcceleratorOffer]:
    """Accelerators beside those that Lepton knows: which share of one a version wants is read from them.

    .. versionadded:: 0.1

    A complete plugin::

        from lepton_plugins import hookimpl
        from lepton_plugins.records.plugin import AcceleratorOffer

        @hookimpl
        def lepton_accelerators():
            return [
                AcceleratorOffer(
                    name="acme-n1",
                    summary="Acme's inference card",
                    memory="32Gi",
                    key="acme.com/n1",  # Kubernetes' resource
                    mig={"1g.8gb": "8Gi"},  # parts that are isolated from each other, if it has any
                )
            ]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def lepton_event(event: Event) -> None:
    """Told of everything that happened: registered, evaluated, planned, promoted, rolled back, generated, failed.

    .. versionadded:: 0.1

    Called after the fact; an exception is reported on stderr and stops nothing. A complete plugin::

        from lepton_plugins import hookimpl

        @hookimpl
        def lepton_event(event):
            if event.kind == "promoted":
                print(f"{event.model}: revision {event.detail['revision']} is in force")
    """
    raise AssertionError("a hook specification is never called")
