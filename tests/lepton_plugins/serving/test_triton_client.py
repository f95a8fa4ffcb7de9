"""Triton's clients, over HTTP (binary tensors) and gRPC: `pip install 'tritonclient[http,grpc]'` to run it.

In a process of its own: KServe's package declares the same protobuf messages.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

ROWS = [[0.5, -1.0, 2.0, 0.25], [1.0, 0.0, -1.0, 3.0]]

CLIENT = """
import importlib, json, sys
import numpy as np

answers = []
for protocol, address in (("http", sys.argv[1]), ("grpc", sys.argv[2])):
    triton = importlib.import_module(f"tritonclient.{protocol}")
    client = triton.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("flights")
    client.get_server_metadata()
    client.get_model_metadata("flights")
    x = triton.InferInput("X", [2, 4], "FP32")
    x.set_data_from_numpy(np.array(json.loads(sys.argv[3]), dtype=np.float32))
    carrier = triton.InferInput("carrier", [2], "BYTES")
    carrier.set_data_from_numpy(np.array(["UA", "WN"], dtype=object))
    wanted = [triton.InferRequestedOutput("proba"), triton.InferRequestedOutput("label")]
    answer = client.infer("flights", [x, carrier], outputs=wanted)
    assert answer.as_numpy("label").shape == (2,)
    answers.append(answer.as_numpy("proba")[:, 1].tolist())
print(json.dumps(answers))
"""


@pytest.mark.skipif(importlib.util.find_spec("tritonclient") is None, reason="tritonclient isn't installed")
def test_tritons_clients(tensor_deployment, start_server, tmp_path):
    with start_server(tensor_deployment.path, tmp_path, grpc_port=0) as server:
        addresses = (server.url.removeprefix("http://"), server.grpc_address)
        command = [sys.executable, "-c", CLIENT, *addresses, json.dumps(ROWS)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    expected = [tensor_deployment.expected(version, np.array(ROWS))[row] for row, version in enumerate("23")]
    for answered in json.loads(done.stdout):
        np.testing.assert_allclose(answered, expected, rtol=1e-5)
