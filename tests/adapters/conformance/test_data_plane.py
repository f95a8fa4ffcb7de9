"""The data plane of `lepton serve`, and the router's own answers, which all the others are held against."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest


def test_the_versions_own_answers_are_what_the_router_gives(routed: Any, rows: pd.DataFrame, lines: Any) -> None:
    slopes = np.array([lines[version] for version in routed.versions])
    np.testing.assert_allclose(routed.values, slopes[:, 0] * rows["x"] + slopes[:, 1], atol=1e-6)
    by_carrier = pd.Series(routed.versions).groupby(rows["carrier"].fillna("none")).unique()
    assert set(by_carrier["UA"]) == {"2"}
    assert set(by_carrier["AA"]) == set(by_carrier["Ñandú"]) == {"1", "2"}
    assert set(by_carrier["ZZ"]) == set(by_carrier["none"]) == {"1"}


@pytest.fixture(scope="module")
def data_plane(
    deployment: Path, bare_environment: Any, free_port: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "lepton_plugins.cli.main", "serve", str(deployment), "--port", str(port)]
    folder = tmp_path_factory.mktemp("data-plane")
    with bare_environment.serving([*command, "--decisions", "none"], f"{url}/v2/health/ready", folder):
        yield url


def test_it_sends_each_row_where_the_router_does(data_plane: str, agree_over_v2: Any) -> None:
    agree_over_v2(data_plane)
