"""`mlflow deployments -t lepton-kserve`, by MLflow's own client and command line, on an API server over HTTP."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow.deployments import get_deploy_client
from mlflow.deployments.cli import commands
from mlflow.exceptions import MlflowException

from lepton_plugins.routing.router import Router

OPTIONS = {"image": "registry.example/line:1", "models": "s3://bucket/models", "timeout": "30"}
SERVICE = ("inferenceservices", "ml", "line")


@pytest.fixture
def client(api_server: Any) -> Any:
    return get_deploy_client("lepton-kserve")


def cli(*arguments: object) -> tuple[int, str]:
    ran = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return ran.exit_code, ran.output


def maps(api_server: Any) -> list[str]:
    return [key[2] for key in sorted(api_server.objects) if key[0] == "configmaps"]


def test_a_life_on_a_cluster(client: Any, api_server: Any, deployment: Path, other: Path, check: Any) -> None:
    made = client.create_deployment("line", str(deployment), config=OPTIONS)
    assert (made["name"], made["flavor"], made["ready"], made["namespace"]) == ("line", "lepton", True, "ml")
    live = api_server.objects[SERVICE]
    check({key: live[key] for key in ("apiVersion", "kind", "metadata", "spec")})
    (config,) = maps(api_server)
    owner = api_server.objects["configmaps", "ml", config]["metadata"]["ownerReferences"]
    assert [item["uid"] for item in owner] == [live["metadata"]["uid"]]
    patches = [request for request in api_server.requests if request[0] == "PATCH"]
    assert {content for _, _, content in patches} == {"application/apply-patch+yaml"}

    with pytest.raises(MlflowException, match="There is a deployment 'line' in namespace ml already"):
        client.create_deployment("line", str(deployment), config=OPTIONS)
    updated = client.update_deployment("line", str(other), config=OPTIONS)
    assert updated["plan"] != made["plan"]
    assert updated["ready"]
    assert maps(api_server) != [config]
    assert len(maps(api_server)) == 1, "the earlier plan's ConfigMap is gone"
    assert client.get_deployment("line") == updated
    assert client.list_deployments() == [updated]
    assert get_deploy_client("lepton-kserve:/default").list_deployments() == []

    client.delete_deployment("line")
    client.delete_deployment("line")  # As MLflow wants it: gone is gone.
    assert api_server.objects == {}
    with pytest.raises(MlflowException, match="There is no deployment 'line' in namespace ml") as caught:
        client.get_deployment("line")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    with pytest.raises(MlflowException, match="There is no deployment 'line'"):
        client.update_deployment("line", str(other), config=OPTIONS)


def test_the_command_line(api_server: Any, deployment: Path) -> None:
    target = ("-t", "lepton-kserve:/default")
    config = [part for name, value in OPTIONS.items() for part in ("-C", f"{name}={value}")]
    code, told = cli("create", *target, "-m", deployment, "--name", "line", *config, "-C", "service_account=reader")
    assert (code, told.strip()) == (0, "lepton deployment line is created")
    live = api_server.objects["inferenceservices", "default", "line"]
    assert live["spec"]["predictor"]["serviceAccountName"] == "reader"
    assert "'name': 'line'" in cli("list", *target)[1]
    assert "ready: True" in cli("get", *target, "--name", "line")[1]
    assert cli("update", *target, "-m", deployment, "--name", "line", *config)[0] == 0
    assert cli("delete", *target, "--name", "line") == (0, "Deployment line is deleted\n")
    code, told = cli("get", *target, "--name", "line")
    assert code == 1
    assert told.startswith("Error: There is no deployment 'line' in namespace default.")
    assert "models:/NAME/plan" in cli("help", *target)[1]


def test_it_waits_and_says_what_the_controller_says(client: Any, api_server: Any, deployment: Path) -> None:
    api_server.ready = None
    options = {**OPTIONS, "timeout": "1.5"}
    with pytest.raises(MlflowException, match=r"isn't ready after 1\.5 s\. Last said: Ready: RevisionFailed Image"):
        client.create_deployment("line", str(deployment), config=options)
    api_server.ready = 0.1
    updated = client.update_deployment(
        "line", str(deployment), config={**OPTIONS, "min_replicas": "2", "max_replicas": "2"}
    )
    assert updated["ready"]
    api_server.ready = None
    left = client.update_deployment("line", str(deployment), config={**OPTIONS, "wait": "false", "cpu": "3"})
    assert left["ready"] is False


def test_a_watch_that_breaks_is_begun_again(client: Any, api_server: Any, deployment: Path) -> None:
    api_server.ready, api_server.cut, api_server.gone = 1.5, 1, 1
    assert client.create_deployment("line", str(deployment), config={**OPTIONS, "timeout": "20"})["ready"]
    assert (api_server.cut, api_server.gone) == (0, 0)


def test_a_service_that_is_deleted_while_it_is_waited_for(client: Any, api_server: Any, deployment: Path) -> None:
    api_server.ready = None

    def somebody() -> None:
        while "status" not in api_server.objects.get(SERVICE, {}):
            time.sleep(0.05)
        api_server.delete(SERVICE)

    threading.Thread(target=somebody, daemon=True).start()
    with pytest.raises(MlflowException, match="There is no deployment 'line'"):
        client.create_deployment("line", str(deployment), config={**OPTIONS, "timeout": "20"})


REFUSALS = {
    "nobody": "it doesn't know you (401). Log in again",
    "locked": 'you may not (403): inferenceservices.serving.kserve.io "line" is forbidden: User "tester" cannot get',
    "nowhere": "there is no namespace 'nowhere' (404). Make it: kubectl create namespace nowhere",
    "without KServe": "it doesn't know InferenceServices (404): KServe isn't installed there",
    "a conflict": "others manage fields that the plan sets (409): .spec.predictor.minReplicas (by autoscaler). Take",
    "another schema": "it finds the manifest invalid (422): spec.predictor.minReplicas: Invalid value: 1: spec.predict",
    "an older KServe": "doesn't know a field that the manifest has, it may be older: failed to create typed patch obje",
    "the webhook": 'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: no (403).',
}


@pytest.mark.parametrize("why", REFUSALS)
def test_a_refusal_is_one_clear_line(why: str, client: Any, api_server: Any, deployment: Path) -> None:
    target, command = "lepton-kserve", "create"
    match why:
        case "nobody":
            config = Path(_kubeconfig()).read_text()
            Path(_kubeconfig()).write_text(config.replace("token-of-the-test", "another"))
        case "locked" | "nowhere":
            target = f"lepton-kserve:/{why}"
        case "without KServe":
            api_server.installed = False
        case "a conflict":
            client.create_deployment("line", str(deployment), config=OPTIONS)
            api_server.take(SERVICE, "autoscaler", ("spec", "predictor", "minReplicas"), 4)
            command = "update"
        case "another schema":
            fields = api_server.schema["properties"]["spec"]["properties"]["predictor"]["properties"]
            fields["minReplicas"] = {**fields["minReplicas"], "minimum": 2}
            _revalidate(api_server)
        case "an older KServe":
            predictor = api_server.schema["properties"]["spec"]["properties"]["predictor"]["properties"]
            predictor.pop("storageUris")
            _revalidate(api_server)
        case "the webhook":
            api_server.denied = "no"
    config = [part for name, value in OPTIONS.items() for part in ("-C", f"{name}={value}")]
    code, told = cli(command, "-t", target, "-m", deployment, "--name", "line", *config)
    assert code == 1
    assert REFUSALS[why] in told
    assert re.fullmatch(r"Error: .*\n", told), "one line"
    assert maps(api_server) == [] or command == "update"


@pytest.mark.parametrize("name", ["a/b", "../configmaps", "x?watch=1", "", "Line", "x y"])
def test_what_cannot_be_a_name_reaches_nothing_else(name: str, client: Any, api_server: Any, deployment: Path) -> None:
    with pytest.raises(MlflowException, match="There is no deployment"):
        client.get_deployment(name)
    client.delete_deployment(name)
    with pytest.raises(MlflowException, match="expected lower-case letters"):
        client.create_deployment(name or "A", str(deployment), config=OPTIONS)
    assert api_server.requests == []
    with pytest.raises(MlflowException, match=r"Found the namespace 'a/b', expected"):
        get_deploy_client("lepton-kserve:/a/b").list_deployments()


def test_fields_of_others_are_taken_over_by_force(client: Any, api_server: Any, deployment: Path) -> None:
    client.create_deployment("line", str(deployment), config=OPTIONS)
    api_server.take(SERVICE, "autoscaler", ("spec", "predictor", "minReplicas"), 4)
    client.update_deployment("line", str(deployment), config={**OPTIONS, "force": "true"})
    assert api_server.objects[SERVICE]["spec"]["predictor"]["minReplicas"] == 1
    # What others manage and the plan doesn't set stays theirs.
    api_server.take(SERVICE, "team", ("spec", "predictor", "priorityClassName"), "high")
    client.update_deployment("line", str(deployment), config={**OPTIONS, "cpu": "2"})
    assert api_server.objects[SERVICE]["spec"]["predictor"]["priorityClassName"] == "high"


def test_no_cluster_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, client: Any, api_server: Any) -> None:
    api_server.close()
    with pytest.raises(MlflowException, match=r"No cluster can be reached: .*KUBECONFIG"):
        client.list_deployments()
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    with pytest.raises(MlflowException, match=r"No cluster can be reached: .*KUBECONFIG"):
        client.list_deployments()
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", "/nowhere")  # Neither a kubeconfig nor a pod.
    with pytest.raises(MlflowException, match=r"No cluster can be reached: .*KUBECONFIG"):
        client.list_deployments()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"image": None}, "expected -C image=REGISTRY/NAME:TAG"),
        ({"models": None}, "--upload s3://bucket/models"),
        ({"imagee": "x"}, "no option 'imagee'. Did you mean 'image'"),
        ({"timeout": "soon"}, "-C timeout=soon: expected seconds"),
        ({"force": "yes"}, "-C force=yes: expected true or false"),
        ({"name": "other"}, "expected one name"),
        ({"revision": "2"}, "goes with -m models:/NAME/plan"),
    ],
)
def test_wrong_options_are_told_before_anything_is_applied(
    options: dict[str, Any], told: str, client: Any, api_server: Any, deployment: Path
) -> None:
    config = {name: value for name, value in {**OPTIONS, **options}.items() if value is not None}
    with pytest.raises(MlflowException, match=re.escape(told)):
        client.create_deployment("line", str(deployment), config=config)
    assert api_server.objects == {}


def test_predict_posts_to_the_service(
    client: Any,
    api_server: Any,
    deployment: Path,
    bare_environment: Any,
    tmp_path: Path,
    monkeypatch: Any,
    free_port: Any,
) -> None:
    """The service is the predictor's process on this machine."""
    client.create_deployment("line", str(deployment), config=OPTIONS)
    rows = pd.DataFrame({"x": [0.0, 1.0, 2.0], "unit": list("abc")})
    with pytest.raises(MlflowException, match="can't be reached from here"):
        client.predict("line", rows)
    port = free_port()
    command = [sys.executable, "-m", "lepton_kserve.predictor", "--deployment", str(deployment), "--port", str(port)]
    with bare_environment.serving(command, f"http://127.0.0.1:{port}/v2/health/ready", tmp_path):
        monkeypatch.setenv("LEPTON_KSERVE_INGRESS", f"http://127.0.0.1:{port}")
        answer = client.predict("line", rows)
        with Router.load(deployment) as router:
            np.testing.assert_allclose(answer["predictions"], router.predict(rows).values, atol=1e-6)
        rows.to_json(tmp_path / "rows.json", orient="records")
        assert (
            '"predictions"' in cli("predict", "-t", "lepton-kserve", "--name", "line", "-I", tmp_path / "rows.json")[1]
        )
        with pytest.raises(MlflowException, match=r"400: .*expected"):
            client.predict("line", pd.DataFrame({"x": ["far"]}))


def test_run_local_serves_as_the_container_would(
    deployment: Path, bare_environment: Any, tmp_path: Path, free_port: Any
) -> None:
    port = free_port()
    arguments = ["run-local", "-t", "lepton-kserve", "-m", str(deployment), "--name", "late", "-C", f"port={port}"]
    code = "from mlflow.deployments.cli import commands; commands()"
    with bare_environment.serving(
        [sys.executable, "-c", code, *arguments], f"http://127.0.0.1:{port}/v2/health/ready", tmp_path
    ):
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/models/late:predict", json={"instances": [{"x": 1.0}]})
        assert answer.status_code == 200


def test_mlflow_lists_the_target_where_no_cluster_client_is_installed() -> None:
    """Importing the module imports neither the Kubernetes client nor KServe."""
    code = (
        "import sys; from mlflow.deployments import get_deploy_client; get_deploy_client('lepton-kserve'); "
        "print([name for name in ('kubernetes', 'kserve', 'bentoml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _kubeconfig() -> str:
    return os.environ["KUBECONFIG"]


def _revalidate(api_server: Any) -> None:
    import jsonschema

    api_server.validator = jsonschema.Draft7Validator(api_server.schema)
