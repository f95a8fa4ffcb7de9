"""What `mlflow deployments` and a cluster refuse."""

from __future__ import annotations

from collections.abc import Sequence

from lepton_plugins.errors.base import LeptonError


class NotARouter(LeptonError):
    """A model URI that leads to no router."""

    code = "not_a_router"

    def __init__(self, uri: str, reason: str = "") -> None:
        name = (
            uri.removeprefix("models:/").partition("/")[0].partition("@")[0] if uri.startswith("models:/") else "NAME"
        )
        found = f" ({reason})" if reason else ""
        super().__init__(
            f"{uri}: found no router there{found}. The plan in force of a model is -m models:/{name}/plan; a router in "
            f"the registry comes from: lepton generate {name} --target mlflow --register-as {name}-router --to DIR"
        )


class CannotDeploy(LeptonError):
    """A target that renders and doesn't deploy."""

    code = "cannot_deploy"

    def __init__(self, target: str, able: Sequence[str]) -> None:
        super().__init__(
            f"The target {target!r} renders and doesn't deploy: lepton generate --target {target}. "
            f"Those that deploy: {', '.join(able) or 'none that is installed here'}."
        )


class ImageMissing(LeptonError):
    """A cluster pulls an image: one must have been built and pushed."""

    code = "image_missing"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"Found no image for the predictor, expected -C image=REGISTRY/NAME:TAG. Build and push it once: lepton "
            f"generate {model} --target kserve --to DIR --models s3://bucket/models; docker build DIR/image"
        )


class DeploymentNotFound(LeptonError):
    """A deployment that isn't there."""

    code = "deployment_not_found"
    http_status = 404

    def __init__(self, name: str, where: str, known: Sequence[str] = ()) -> None:
        there = f"; there are {', '.join(known[:12])}" if known else ""
        super().__init__(f"There is no deployment {name!r} in {where}{there}. `mlflow deployments list` shows them.")


class DeploymentExists(LeptonError):
    """A deployment of this name is there already."""

    code = "deployment_exists"
    http_status = 409

    def __init__(self, name: str, where: str) -> None:
        super().__init__(
            f"There is a deployment {name!r} in {where} already: use `mlflow deployments update`, or another name."
        )


class DeploymentFailed(LeptonError):
    """A deployment that doesn't answer as it should."""

    code = "deployment_failed"
    http_status = 503

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"The deployment {name!r} failed: {reason}")


class NotReadyInTime(LeptonError):
    """A deployment that did not get ready within its time."""

    code = "not_ready_in_time"
    http_status = 504

    def __init__(self, name: str, seconds: float, last: str, look: str) -> None:
        said = f" Last said: {last}." if last else ""
        super().__init__(
            f"{name!r} was applied but isn't ready after {seconds:g} s.{said} It may still get there: {look}. "
            "-C timeout=SECONDS waits longer."
        )


class NotGoneInTime(LeptonError):
    """A deployment that was deleted and is still there."""

    code = "not_gone_in_time"
    http_status = 504

    def __init__(self, name: str, seconds: float, finalizers: Sequence[str]) -> None:
        held = f" Held by {', '.join(finalizers)}, which its controller takes off: does that run?" if finalizers else ""
        super().__init__(
            f"{name!r} was deleted but is still there after {seconds:g} s.{held} -C timeout=SECONDS waits longer."
        )


class ClusterUnreachable(LeptonError):
    """No cluster answers, or none is set up."""

    code = "cluster_unreachable"
    http_status = 503

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"No cluster can be reached: {reason}. Expected a kubeconfig (KUBECONFIG or ~/.kube/config) whose current "
            "context is the cluster's, or to run in a pod of it; `kubectl get namespaces` shows whether it answers."
        )


class ClusterRefused(LeptonError):
    """A cluster's API server said no."""

    code = "cluster_refused"

    def __init__(self, status: int, action: str, sentence: str) -> None:
        self.http_status = status
        super().__init__(f"The cluster refused to {action}: {sentence}")


class FieldsDropped(LeptonError):
    """A cluster that would leave out what it doesn't know, and say nothing."""

    code = "fields_dropped"

    def __init__(self, name: str, fields: Sequence[str]) -> None:
        super().__init__(
            f"The cluster would drop fields of the InferenceService {name!r} that its KServe doesn't know: "
            f"{', '.join(fields[:8])}. Nothing was applied. Expected KServe 0.16 or newer and no field that it "
            "doesn't have in the manifest that -C from=FILE names."
        )
