"""The deployer by itself, without MLflow: the contract kit on an API server over HTTP."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from lepton_kserve.deployer import KserveDeployer
from lepton_plugins.testing import DeployerContract


class Contract(DeployerContract):
    deployer = KserveDeployer
    place = "default"
    options = {"image": "registry.example/line:1", "models": "s3://bucket/models", "timeout": "30"}
    answers = False  # No pod runs there.


def test_it_keeps_the_contract(api_server: Any) -> None:
    Contract.check()
    assert api_server.objects == {}


def test_deployers_import_no_mlflow() -> None:
    code = (
        "import sys, lepton_kserve.deployer, lepton_bentoml.deployer; "
        "print([name for name in ('mlflow', 'pandas', 'bentoml', 'kubernetes') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
