"""What a registered model's description says of the plan in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lepton_mlflow.description import with_block
from lepton_mlflow.figures import cell, metric_name, number, table
from lepton_mlflow.names import PLAN_FILE
from lepton_plugins.records.plan import DeploymentPlan, PlanRevision

if TYPE_CHECKING:
    from mlflow import MlflowClient


def describe_model(client: MlflowClient, experiment_id: str, revision: PlanRevision, plan: DeploymentPlan) -> None:
    """Put the block on the registered model; called inside `Access.doing`."""
    old = client.get_registered_model(revision.model).description or ""
    text = with_block(old, verdict(revision, plan), bodies(experiment_id, revision, plan))
    if text != old:
        client.update_registered_model(revision.model, text)


def verdict(revision: PlanRevision, plan: DeploymentPlan) -> str:
    """The first line of the block."""
    arms = len(plan.arms)
    return f"Plan #{revision.number} in force: {plan.policy.kind}, {arms} arm{'s' if arms != 1 else ''}"


def bodies(experiment_id: str, revision: PlanRevision, plan: DeploymentPlan) -> list[str]:
    """The block's content in Markdown, from the fullest to the shortest."""
    run = f"#/experiments/{experiment_id}/runs/{revision.run_id}"
    links = f"[plan]({run}/artifacts/{PLAN_FILE}) · [revision's run]({run}) · `{revision.digest[7:19]}`"
    parts = [_arms(plan)]
    if plan.gain is not None:
        gain = plan.gain
        parts[0] = (
            f"Expected gain over version {plan.default} alone: {number(gain.value)} "
            f"[{number(gain.low)}, {number(gain.high)}] in {cell(metric_name(gain.metric))} "
            f"({round(100 * gain.level)} % interval, {gain.n:,} rows)\n\n{parts[0]}"
        )
    if plan.warnings:
        parts.append("\n".join(f"- Warning: {cell(warning)}" for warning in plan.warnings))
    if plan.rejected:
        parts.append("\n".join(f"- Version {entry.version} rejected: {cell(entry.reason)}" for entry in plan.rejected))
    return ["\n\n".join([*parts[:count], links]) for count in range(len(parts), 0, -1)] + [links]


def _arms(plan: DeploymentPlan) -> str:
    rows = [
        (
            f"{arm.version} ({cell(arm.label)})" if arm.label else arm.version,
            f"{100 * arm.share:.1f} %",
            cell(arm.framework or "–"),
            cell(arm.backend),
            "default" if arm.version == plan.default else "",
        )
        for arm in plan.arms
    ]
    return table(("version", "share", "framework", "backend", ""), rows, right=(1,))
