"""Evaluation reports: a run of the model's experiment each, and tags and a description on the version."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from lepton_mlflow.access import Access
from lepton_mlflow.description import with_block
from lepton_mlflow.digests import digest_tag, recorded_digest
from lepton_mlflow.experiments import make_home
from lepton_mlflow.faults import is_missing
from lepton_mlflow.measurements import log_measurements
from lepton_mlflow.model_files import logged_model_id
from lepton_mlflow.names import DIGEST, FILES, FOLDER, REPORT, REPORT_FILE
from lepton_mlflow.report_tags import ReportIndex, flat_tags, is_report_tag, read_index
from lepton_mlflow.runs import create_run
from lepton_mlflow.undo import AllOrNothing
from lepton_mlflow.upsert import upsert
from lepton_mlflow.version_text import bodies, verdict
from lepton_mlflow.versions import Versions
from lepton_plugins.canonical import canonical_json, digest_bytes
from lepton_plugins.errors import DigestMismatch, InvalidInput, RecordMismatch
from lepton_plugins.records.report import EvaluationReport

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion


class Reports:
    """Stores reports and reads them back, checked."""

    def __init__(self, access: Access, versions: Versions) -> None:
        self._access = access
        self._versions = versions
        self._read: dict[tuple[str, str], EvaluationReport] = {}

    def save(self, report: EvaluationReport, files: Mapping[str, Path]) -> EvaluationReport:
        """Store a report with its files for good: all of it or nothing."""
        _check_files(files)
        name = f"version {report.version} of {report.model!r}"
        body = canonical_json(report.model_copy(update={"run_id": None}))
        with self._access.doing(f"save the report of {name}") as client, AllOrNothing() as undo:
            version = self._versions.find(client, report.model, report.version)
            home = make_home(self._access, client, report.model)
            recorded = recorded_digest(report.model, report.version, version.tags)
            if recorded and report.artifact_digest and recorded != report.artifact_digest:
                raise DigestMismatch(name.capitalize(), report.artifact_digest, recorded)
            run_id = self._run(client, home.experiment_id, report, version, body, files, undo)
            index = ReportIndex(report.model, report.version, report.artifact_digest, run_id, digest_bytes(body))
            self._show(client, version, report, index, home.experiment_id, files, undo)
        return report.model_copy(update={"run_id": run_id})

    def _run(
        self,
        client: MlflowClient,
        experiment_id: str,
        report: EvaluationReport,
        version: MlflowVersion,
        body: bytes,
        files: Mapping[str, Path],
        undo: AllOrNothing,
    ) -> str:
        digests = {name: digest_bytes(path.read_bytes()) for name, path in files.items()}
        run = create_run(
            client,
            experiment_id,
            "evaluation",
            model=report.model,
            name=f"evaluation of version {report.version} on {report.dataset.name}",
            note=verdict(report),
            tags={"lepton.version": report.version, FILES: json.dumps(digests, sort_keys=True)},
        )
        run_id = str(run.info.run_id)
        undo.by(lambda: client.delete_run(run_id))
        undo.by(lambda: self._access.delete_files(str(run.info.artifact_uri)))
        with tempfile.TemporaryDirectory(prefix="lepton-report-") as folder:
            for file_name, path in files.items():
                shutil.copyfile(path, Path(folder) / file_name)
            (Path(folder) / Path(REPORT_FILE).name).write_bytes(body)
            client.log_artifacts(run_id, folder, FOLDER)
        log_measurements(client, run_id, logged_model_id(client, version), report)
        client.set_terminated(run_id, "FINISHED" if report.ok else "FAILED", int(time.time() * 1000))
        return run_id

    def _show(
        self,
        client: MlflowClient,
        version: MlflowVersion,
        report: EvaluationReport,
        index: ReportIndex,
        experiment_id: str,
        files: Mapping[str, Path],
        undo: AllOrNothing,
    ) -> None:
        """Tags and description on the version; the index tag last, as what makes the report count."""
        model, number, before = report.model, report.version, dict(version.tags)

        def put(key: str, value: str) -> None:
            undo.by(lambda: _restore(client, model, number, key, before.get(key)))
            upsert(lambda: client.set_model_version_tag(model, number, key, value))

        if report.artifact_digest:
            put(DIGEST, digest_tag(model, number, report.artifact_digest))
        tags = flat_tags(report)
        for key, value in tags.items():
            if before.get(key) != value:
                put(key, value)
        for key in before:
            if is_report_tag(key) and key not in tags and key != REPORT:
                undo.by(partial(_restore, client, model, number, key, before[key]))
                client.delete_model_version_tag(model, number, key)
        old = version.description or ""
        text = with_block(old, verdict(report), bodies(report, experiment_id, index.run_id, files))
        undo.by(lambda: client.update_model_version(model, number, old))
        client.update_model_version(model, number, text)
        put(REPORT, index.text())

    def get(self, model: str, version: str) -> EvaluationReport | None:
        """The version's latest report, its digest and its subject checked; None if it has none."""
        with self._access.doing(f"read the report of version {version} of {model!r}") as client:
            found = self._versions.find(client, model, version)
            number = str(found.version)
            index = read_index(model, number, found.tags)
            if index is None:
                return None
            key = (index.run_id, index.report_digest)
            if key not in self._read:
                body = _download_report(self._access, client, index)
                if body is None:
                    return None
                self._read[key] = _parse(body, index)
            return self._read[key]

    def get_file(self, report: EvaluationReport, name: str, to: Path) -> Path | None:
        """Download a report's file into the folder `to`, its digest checked; None if the report has none."""
        if report.run_id is None:
            return None
        with self._access.doing(f"download {name} of the report of {report.model!r} {report.version}") as client:
            run = client.get_run(report.run_id)
            digests = json.loads(run.data.tags.get(FILES, "{}"))
            if name not in digests:
                return None
            to.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".lepton-", dir=to) as folder:
                file = self._access.download(str(run.info.artifact_uri), f"{FOLDER}/{name}", Path(folder))
                with file.open("rb") as stream:
                    found = digest_bytes(stream.read())
                if found != digests[name]:
                    raise DigestMismatch(f"{name} of run {report.run_id}", found, digests[name])
                return file.replace(to / name)


def _check_files(files: Mapping[str, Path]) -> None:
    for name, path in files.items():
        if name != Path(name).name or name in ("", ".", "..", Path(REPORT_FILE).name):
            raise InvalidInput(f"A report's file: found the name {name!r}, expected a plain file name.")
        if not path.is_file():
            raise InvalidInput(f"A report's file {name!r}: there is no file {path}.")


def _restore(client: MlflowClient, model: str, version: str, key: str, value: str | None) -> None:
    if value is None:
        client.delete_model_version_tag(model, version, key)
    else:
        client.set_model_version_tag(model, version, key, value)


def _download_report(access: Access, client: MlflowClient, index: ReportIndex) -> bytes | None:
    """The report's bytes; None if somebody deleted its run."""
    try:
        run = client.get_run(index.run_id)
    except Exception as error:
        if is_missing(error):
            return None
        raise
    if run.info.lifecycle_stage == "deleted":
        return None
    with tempfile.TemporaryDirectory(prefix="lepton-report-") as folder:
        return access.download(str(run.info.artifact_uri), REPORT_FILE, Path(folder)).read_bytes()


def _parse(body: bytes, index: ReportIndex) -> EvaluationReport:
    what = f"The report of version {index.version} of {index.model!r} (run {index.run_id})"
    if (found := digest_bytes(body)) != index.report_digest:
        raise DigestMismatch(what, found, index.report_digest)
    try:
        report = EvaluationReport.model_validate_json(body)
    except ValidationError:
        raise RecordMismatch(what, "another Lepton's format", "a report of format 1") from None
    if (report.model, report.version) != (index.model, index.version):
        raise RecordMismatch(
            what, f"version {report.version} of {report.model!r}", f"version {index.version} of {index.model!r}"
        )
    return report.model_copy(update={"run_id": index.run_id})
