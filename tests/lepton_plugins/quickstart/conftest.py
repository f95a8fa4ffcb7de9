from __future__ import annotations

import pandas as pd
import pytest

from lepton_plugins.quickstart.flights import load_flights


@pytest.fixture(scope="session")
def flights() -> pd.DataFrame:
    return load_flights()
