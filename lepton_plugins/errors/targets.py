"""What a target cannot render as asked."""

from __future__ import annotations

from collections.abc import Sequence

from lepton_plugins.errors.base import LeptonError


class RequirementsConflict(LeptonError):
    """Versions of one plan that can't be installed together."""

    code = "requirements_conflict"

    def __init__(self, conflicts: Sequence[str]) -> None:
        super().__init__(
            f"The requirements can't be met by one environment. {'; '.join(conflicts)}. "
            "Log one of the versions again with the other's packages, or leave it out of the plan."
        )


class RequirementInvalid(LeptonError):
    """A line of requirements that can't go into an artefact."""

    code = "requirement_invalid"

    def __init__(self, side: str, line: str) -> None:
        super().__init__(
            f"The requirements of {side}: found {line[:200]!r}, expected a package with its version such as "
            "scikit-learn==1.6.1; files, folders and addresses don't travel with an artefact."
        )


class EnvironmentUnknown(LeptonError):
    """A version that doesn't say which packages it needs."""

    code = "environment_unknown"

    def __init__(self, version: str) -> None:
        super().__init__(
            f"Version {version} has no requirements.txt, so what it needs isn't known. "
            "Name it: --option requirements=scikit-learn==1.6.1,skops==0.11"
        )


class SourceNotPullable(LeptonError):
    """Files of a version that lie where a cluster can't get them."""

    code = "source_not_pullable"

    def __init__(self, version: str, address: str) -> None:
        scheme = address.partition(":")[0][:40] if ":" in address else "a local path"
        super().__init__(
            f"Version {version}: its files are at an address that a cluster can't pull from (found {scheme}; expected "
            "s3, gs, pvc, hdfs, hf, oci or Azure's https, without a password). Copy them where it can: "
            "lepton pull NAME --to DIR, then DIR/models to, say, s3://bucket/models, and add "
            "--option models=s3://bucket/models"
        )


class ManifestInvalid(LeptonError):
    """A manifest that a cluster would refuse."""

    code = "manifest_invalid"

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("KServe would refuse this manifest. " + "; ".join(findings))


class PlanTooLargeForTarget(LeptonError):
    """A plan beyond what the target can carry."""

    code = "plan_too_large_for_target"

    def __init__(self, target: str, size: int, limit: int) -> None:
        super().__init__(
            f"The plan and its policy's files have {size:,} bytes; {target} carries at most {limit:,}. "
            "Plan with fewer segments or a smaller policy."
        )
