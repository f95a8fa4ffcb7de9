"""What a plan says of where things are holds on any machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_plugins.planning.portable import storage_address, without_paths


@pytest.mark.parametrize("kept", ["s3://bucket/a/b", "gs://bucket/a", "abfss://c@account.dfs.core.windows.net/x"])
def test_shared_storage_is_named(kept: str) -> None:
    assert storage_address(kept) == kept


@pytest.mark.parametrize(
    "cut",
    [
        *(None, "", "/srv/mlruns/1", "file:///srv/mlruns/1", "C:\\mlruns\\1", "models:/m-1", "mlflow-artifacts:/1/a"),
        *("mlflow-artifacts://host:5000/1", "s3://key:secret@bucket/a", "https://a.blob.core.windows.net/c/x?sig=1"),
        *("http://[", "dbfs:/x"),
    ],
)
def test_what_one_machine_or_server_reads_is_not(cut: str | None) -> None:
    assert storage_address(cut) is None


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("Load model from /tmp/x-1/model.onnx failed", "Load model from model.onnx failed"),
        ("there is no 'file:///home/me/a/b'", "there is no 'b'"),
        ("at sqlite:////tmp/r/mlflow.db there", "at mlflow.db there"),
        ("C:\\Users\\me\\m.onnx is gone; run: lepton evaluate a/b", "m.onnx is gone; run: lepton evaluate a/b"),
        ("found 1/2 of s3://bucket/a/b; see http://host/a/b", "found 1/2 of s3://bucket/a/b; see http://host/a/b"),
    ],
)
def test_paths_in_sentences_are_cut_to_their_end(told: str, kept: str) -> None:
    assert without_paths(told) == kept


@given(st.lists(st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True), min_size=2, max_size=6))
def test_no_folder_stays(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    assert without_paths(f"found {path} there") == f"found {parts[-1]} there"
