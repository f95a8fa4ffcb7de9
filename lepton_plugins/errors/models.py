"""A version's files and the code that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lepton_plugins.errors.base import LeptonError


class ModelFailed(LeptonError):
    """A version that failed to load or to predict."""

    code = "model_failed"
    http_status = 500

    def __init__(self, version: str, action: str, reason: str) -> None:
        self.action, self.reason = action, reason
        super().__init__(f"Version {version} failed to {action}: {reason}")


class NoVersionAnswered(ModelFailed):
    """Rows that neither the chosen version nor a fallback answered; the client gets no more than this sentence.

    `failed` are the versions as they were asked, each with its error's code. `away` is the status where none of them
    failed by itself: they can't be reached or have too much to do (503), or take too long (504). `retry_after` is when
    the first of them said that it may answer again.
    """

    def __init__(
        self, failed: Sequence[tuple[str, str]], away: int | None, reference: str, retry_after: int | None = None
    ) -> None:
        tried = ", then ".join(f"version {version} ({code})" for version, code in failed)
        LeptonError.__init__(
            self, f"No version could answer: {tried}. The server's log has the reason under {reference}"
        )
        self.action, self.reason, self.reference = "answer", tried, reference
        if away is not None:
            self.code, self.http_status, self.retry_after = "no_version_available", away, retry_after


class ModelFilesInvalid(LeptonError):
    """A version's files that contradict themselves or reach outside their directory."""

    code = "model_files_invalid"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"The model files at {path.name!r} can't be used: {reason}. Register the model again.")


class FormatUnknown(LeptonError):
    """Files that no backend runs."""

    code = "format_unknown"

    def __init__(self, path: Path, backend: str | None = None) -> None:
        who = f"The backend {backend!r} doesn't run" if backend else "No backend runs"
        names = sorted(file.name for file in path.iterdir())[:6] if path.is_dir() else [path.name]
        super().__init__(
            f"{who} these files: found {', '.join(names) or 'an empty directory'}, expected an MLflow model "
            f"directory (with an MLmodel file), or a file *.onnx, *.skops, *.joblib, *.pkl. "
            f"`lepton plugins` lists the backends."
        )


class TrustRequired(LeptonError):
    """A format that carries code, without leave to load it."""

    code = "trust_required"

    def __init__(self, version: str, format: str) -> None:
        super().__init__(f"Version {version} is {self.reason(format).removeprefix('it is ')}.")

    @staticmethod
    def reason(format: str) -> str:
        """Why a version of this format isn't loaded, and what helps."""
        return (
            f"it is stored as {format}, a format that runs code when it is loaded. "
            f"If you trust who wrote it, pass --trust pickle; else register it as ONNX or skops"
        )


class ShapeUnknown(LeptonError):
    """A graph whose tensors' sizes can't be told without running it."""

    code = "shape_unknown"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"{name}: found a shape that can't be inferred: {reason.rstrip('.')}. Measure the version's GPU memory "
            "on a machine that has one: lepton evaluate does where it finds it."
        )
