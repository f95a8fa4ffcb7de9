"""The registry: what cannot be reached, found, written or believed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lepton_plugins.errors.base import LeptonError, nearest


class RegistryUnreachable(LeptonError):
    """The registry did not answer."""

    code = "registry_unreachable"

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"The registry at {uri} doesn't answer: {reason}. "
            f"Check the address (--registry, or MLFLOW_TRACKING_URI) and that the server runs."
        )


class RegistryReadOnly(LeptonError):
    """A write that the registry refused for lack of permission."""

    code = "registry_read_only"

    def __init__(self, uri: str, action: str) -> None:
        super().__init__(
            f"The registry at {uri} doesn't let you {action}: permission denied. "
            f"Reading still works; ask for EDIT permission, or write to a registry of your own with --registry."
        )


class RegistryForbidden(LeptonError):
    """A read that the registry refused."""

    code = "registry_forbidden"

    def __init__(self, uri: str, action: str, reason: str) -> None:
        super().__init__(
            f"The registry at {uri} doesn't let you {action}: {reason}. "
            f"Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN), or ask for "
            f"READ permission."
        )


class RegistryFailed(LeptonError):
    """The registry answered, but with an error of its own."""

    code = "registry_failed"

    def __init__(self, uri: str, action: str, reason: str) -> None:
        super().__init__(f"The registry at {uri} failed to {action}: {reason}")


class RecordDeleted(LeptonError):
    """A place of Lepton's records that somebody deleted in the registry."""

    code = "record_deleted"

    def __init__(self, what: str, restore: str) -> None:
        super().__init__(
            f"{what} was deleted in the registry. Restore it ({restore}), or run `lepton purge` to start anew."
        )


class LabelAmbiguous(LeptonError):
    """A label that several versions carry, because tags were edited by hand."""

    code = "label_ambiguous"

    def __init__(self, model: str, label: str, versions: Sequence[str]) -> None:
        super().__init__(
            f"The label {label!r} of model {model!r} is carried by versions {', '.join(versions)}, expected one. "
            f"Name the version by its number, or correct the tag lepton.label."
        )
        self.versions = tuple(versions)


class UnknownFramework(LeptonError):
    """A framework that Lepton has no layout for."""

    code = "unknown_framework"

    def __init__(self, framework: str, known: Iterable[str]) -> None:
        super().__init__(
            f"Unknown framework {framework!r}.{nearest(framework, known)} A model of any other framework is "
            f"registered from an MLflow model directory (`mlflow.<flavor>.save_model`, `mlflow.pyfunc.save_model`)."
        )


class FrameworkUnclear(LeptonError):
    """Files from which the framework can't be told."""

    code = "framework_unclear"

    def __init__(self, path: object, found: str, known: Iterable[str]) -> None:
        super().__init__(
            f"{path}: the framework can't be told from these files: {found}. "
            f"Name it with --framework: {', '.join(sorted(known))}."
        )


class FrameworkMismatch(LeptonError):
    """Files that aren't what the named framework stores."""

    code = "framework_mismatch"

    def __init__(self, path: object, framework: str, found: str, expected: str) -> None:
        super().__init__(f"{path}: found {found}, expected {expected} for the framework {framework!r}.")


class RecordTooLong(LeptonError):
    """A value beyond what the registry stores in its place."""

    code = "record_too_long"

    def __init__(self, what: str, found: int, limit: int) -> None:
        super().__init__(f"{what}: found {found:,} characters, expected at most {limit:,}. Shorten it.")


class ModelNotFound(LeptonError):
    """No registered model of this name."""

    code = "model_not_found"
    http_status = 404

    def __init__(self, model: str, known: Iterable[str] = ()) -> None:
        super().__init__(f"No registered model {model!r}.{nearest(model, known)} `lepton list` shows what there is.")


class VersionNotFound(LeptonError):
    """The model has no version of this number or label."""

    code = "version_not_found"
    http_status = 404

    def __init__(self, model: str, version: str, known: Sequence[str]) -> None:
        shown = ", ".join(known) if known else "none"
        super().__init__(f"Model {model!r} has no version {version!r}. Versions: {shown}.")


class LabelTaken(LeptonError):
    """A label that already names another version of the model."""

    code = "label_taken"

    def __init__(self, model: str, label: str, version: str) -> None:
        super().__init__(
            f"Model {model!r} already has the label {label!r} (version {version}). "
            f"Nothing was registered. Choose another label, or delete that version first."
        )


class DigestMismatch(LeptonError):
    """Files whose digest isn't the recorded one."""

    code = "digest_mismatch"

    def __init__(self, what: str, found: str, expected: str) -> None:
        super().__init__(
            f"{what}: the files' digest is {found[:19]}…, expected {expected[:19]}…. They changed after they "
            f"were recorded; evaluate and plan again, or restore the recorded files."
        )


class RecordMismatch(LeptonError):
    """A record in the registry that speaks of another model, version or digest than where it was found."""

    code = "record_mismatch"

    def __init__(self, where: str, found: str, expected: str) -> None:
        super().__init__(
            f"{where} holds a record of {found}, expected one of {expected}. It was probably copied with its "
            f"tags; it is not used. Evaluate this version to give it a record of its own."
        )
