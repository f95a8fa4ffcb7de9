"""Whatever comes in: no 5xx, no stack trace, no path, and the process lives."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PATHS = [
    "/v2/models/flights/infer",
    "/v2/models/flights/versions/2/infer",
    "/v1/models/flights:predict",
    "/invocations",
    "/lepton/feedback",
    "/lepton/explain",
]

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["UA", "x0", "FP64", "", "é"]),
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
names = st.sampled_from(["x0", "x1", "x2", "x3", "carrier", "X", ""]) | st.text(max_size=4)
tensor = st.fixed_dictionaries(
    {
        "name": names | values,
        "shape": st.lists(st.integers(-2, 5), max_size=3) | values,
        "datatype": st.sampled_from(["BOOL", "INT8", "UINT64", "FP16", "FP32", "FP64", "BYTES", "FP8"]) | values,
        "data": values,
    },
    optional={"parameters": values},
)
row = st.fixed_dictionaries({f"x{i}": leaves for i in range(4)}, optional={"carrier": leaves, "other": leaves})
bodies = st.one_of(
    values,
    st.fixed_dictionaries(
        {"inputs": st.lists(tensor, max_size=6)}, optional={"id": values, "outputs": values, "parameters": values}
    ),
    st.fixed_dictionaries({"instances": st.lists(row | values, max_size=3)}),
    st.fixed_dictionaries({"inputs": row | st.dictionaries(names, values, max_size=5)}),
    st.fixed_dictionaries({"dataframe_records": st.lists(row, max_size=3)}, optional={"params": values}),
    st.fixed_dictionaries({"dataframe_split": st.fixed_dictionaries({"columns": values, "data": values})}),
    st.fixed_dictionaries({"context": st.dictionaries(names, leaves, max_size=3)}, optional={"key": values}),
    st.fixed_dictionaries(
        {"decision": st.text(max_size=8)}, optional={"reward": leaves, "label": leaves, "time": leaves}
    ),
    st.lists(st.fixed_dictionaries({"decision": leaves}, optional={"reward": leaves}), max_size=3),
)
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.strip)
headers = st.dictionaries(
    st.sampled_from(
        ["x-lepton-key", "x-lepton-version", "content-type", "content-encoding", "origin", "authorization", "accept"]
    ),
    header_values | st.sampled_from(["application/json", "text/csv", "1", "v2"]),
    max_size=2,
)


@pytest.fixture(scope="module")
def fuzzed(server):
    with server.client() as client:
        yield client


def check(response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    for telling in ("Traceback", 'File "', "site-packages", "/lepton_plugins", "onnxruntime"):
        assert telling not in response.text
    if response.status_code >= 400:
        said: Any = response.json()
        assert set(said) >= {"error", "code"}


def fuzz(examples: int) -> Any:
    return settings(
        max_examples=examples,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@fuzz(400)
@given(path=st.sampled_from(PATHS), body=bodies)
def test_json_of_any_shape(fuzzed, path, body):
    check(fuzzed.post(path, json=body))


@fuzz(150)
@given(
    path=st.sampled_from(PATHS),
    body=st.binary(max_size=60) | st.text(max_size=60).map(str.encode),
    given_headers=headers,
)
def test_bytes_and_headers_of_any_kind(fuzzed, path, body, given_headers):
    check(fuzzed.post(path, content=body, headers=given_headers))


@fuzz(150)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]),
    path=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#?"), max_size=40),
)
def test_any_path_and_method(fuzzed, method, path):
    check(fuzzed.request(method, "/" + path.lstrip("/")))


@pytest.mark.long
@fuzz(5000)
@given(path=st.sampled_from(PATHS), body=bodies, given_headers=headers)
def test_a_lot_of_everything(fuzzed, path, body, given_headers):
    check(
        fuzzed.post(
            path, content=json.dumps(body).encode(), headers={"content-type": "application/json", **given_headers}
        )
    )


def test_the_process_is_alive_after_all_that(fuzzed, server):
    assert fuzzed.get("/v2/health/ready").status_code == 200
    assert server.process.poll() is None
    assert "Traceback" not in server.errors.read_text()
