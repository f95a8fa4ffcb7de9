"""Plan revisions: runs of the model's experiment, numbered by its ledger."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pydantic import ValidationError

from lepton_mlflow.access import Access
from lepton_mlflow.experiments import Home, find_home, get_registered_model, make_home
from lepton_mlflow.ledger import Entry
from lepton_mlflow.names import PLAN_FILE, POLICY_FOLDER
from lepton_mlflow.runs import create_run
from lepton_mlflow.undo import AllOrNothing
from lepton_plugins.canonical import digest_bytes
from lepton_plugins.errors import DigestMismatch, InvalidInput, RecordMismatch
from lepton_plugins.records.plan import DeploymentPlan, PlanRevision
from lepton_plugins.user_name import user_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: The ledger's list of plans.
PLANS = "plan"
_SUMMARY_LIMIT = 2000


class Plans:
    """Stores plans and reads them back, checked."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def save(self, plan: DeploymentPlan, files: Mapping[str, bytes], summary: str) -> PlanRevision:
        """Store a plan with its policy files; a plan of the same digest is stored once."""
        _check_files(plan, files)
        with self._access.doing(f"save a plan of {plan.model!r}") as client, AllOrNothing() as undo:
            home = make_home(self._access, client, plan.model)
            if (known := find_revision(home, plan.model, plan.digest)) is not None:
                return known
            run = create_run(
                client,
                home.experiment_id,
                "plan",
                model=plan.model,
                name=f"plan {plan.digest[7:19]}",
                note=summary,
                tags={"lepton.digest": plan.digest, "lepton.policy": plan.policy.kind},
            )
            run_id = str(run.info.run_id)
            undo.by(lambda: client.delete_run(run_id))
            undo.by(lambda: self._access.delete_files(str(run.info.artifact_uri)))
            with tempfile.TemporaryDirectory(prefix="lepton-plan-") as folder:
                _write(Path(folder), plan, files, summary)
                client.log_artifacts(run_id, folder)
            client.set_terminated(run_id)
            return self._number(client, home, plan, run_id, summary)

    def _number(
        self, client: MlflowClient, home: Home, plan: DeploymentPlan, run_id: str, summary: str
    ) -> PlanRevision:
        value = {
            "digest": plan.digest,
            "run_id": run_id,
            "parent": plan.parent,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "created_by": user_name(),
            "summary": summary if len(summary) <= _SUMMARY_LIMIT else summary[: _SUMMARY_LIMIT - 1] + "…",
        }
        while True:
            entries = home.ledger.entries(PLANS)
            same = next((entry for entry in entries if entry.value["digest"] == plan.digest), None)
            if same is not None:  # Another process stored the same plan in the meantime.
                client.delete_run(run_id)
                return revision_of(plan.model, same)
            number = entries[-1].number + 1 if entries else 1
            if home.ledger.claim(PLANS, number, value):
                client.set_tag(run_id, "lepton.number", str(number), synchronous=True)
                client.set_tag(run_id, "mlflow.runName", f"plan #{number}", synchronous=True)
                return revision_of(plan.model, Entry(number, value))

    def list_plans(self, model: str) -> list[PlanRevision]:
        """By number, ascending."""
        with self._access.doing(f"list the plans of {model!r}") as client:
            get_registered_model(client, model)
            home = find_home(client, model)
            return [revision_of(model, entry) for entry in home.ledger.entries(PLANS)] if home else []

    def get(self, revision: PlanRevision) -> tuple[DeploymentPlan, dict[str, bytes]]:
        """The plan and its policy files, every digest checked."""
        what = f"Plan #{revision.number} of {revision.model!r}"
        with (
            self._access.doing(f"read plan #{revision.number} of {revision.model!r}") as client,
            tempfile.TemporaryDirectory(prefix="lepton-plan-") as folder,
        ):
            uri = str(client.get_run(revision.run_id).info.artifact_uri)
            body = self._access.download(uri, PLAN_FILE, Path(folder)).read_bytes()
            if (found := digest_bytes(body)) != revision.digest:
                raise DigestMismatch(what, found, revision.digest)
            plan = _parse(body, what)
            if plan.model != revision.model:
                raise RecordMismatch(what, f"model {plan.model!r}", f"model {revision.model!r}")
            files = {}
            for file in plan.policy.files:
                _check_path(file.path)
                path = f"{POLICY_FOLDER}/{file.path}"
                content = self._access.download(uri, path, Path(folder)).read_bytes()
                if (found := digest_bytes(content)) != file.digest:
                    raise DigestMismatch(f"{what}, policy file {file.path}", found, file.digest)
                files[file.path] = content
        return plan, files


def find_revision(home: Home, model: str, digest: str) -> PlanRevision | None:
    """The stored revision of this digest; called inside `Access.doing`."""
    entries = home.ledger.entries(PLANS)
    found = next((entry for entry in entries if entry.value["digest"] == digest), None)
    return revision_of(model, found) if found else None


def revision_of(model: str, entry: Entry) -> PlanRevision:
    """The revision that an entry of the ledger's list of plans stands for."""
    return PlanRevision(model=model, number=entry.number, **entry.value)


def _check_files(plan: DeploymentPlan, files: Mapping[str, bytes]) -> None:
    named = {file.path: file.digest for file in plan.policy.files}
    if set(named) != set(files):
        raise InvalidInput(f"The plan names the policy files {sorted(named)}, found {sorted(files)}.")
    for path, content in files.items():
        _check_path(path)
        if (found := digest_bytes(content)) != named[path]:
            raise DigestMismatch(f"Policy file {path}", found, named[path])


def _check_path(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "%" in path:
        raise InvalidInput(f"A policy file: found the path {path!r}, expected one below the policy's folder.")


def _write(folder: Path, plan: DeploymentPlan, files: Mapping[str, bytes], summary: str) -> None:
    contents = {f"{POLICY_FOLDER}/{path}": content for path, content in files.items()}
    contents[PLAN_FILE] = plan.content
    contents["lepton/summary.txt"] = summary.encode()
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def _parse(body: bytes, what: str) -> DeploymentPlan:
    try:
        return DeploymentPlan.read(body)
    except ValidationError:
        raise RecordMismatch(what, "another Lepton's format", "a plan of format 1") from None
