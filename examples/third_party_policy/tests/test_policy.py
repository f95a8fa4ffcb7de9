"""The contract kit on the policy, and what it is for."""

from __future__ import annotations

import numpy as np
from acme_office_hours.policy import OfficeHours

from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.testing import PolicyContract


class TestOfficeHours(PolicyContract):
    policy = OfficeHours
    params = {"day": 2, "night": 3}
    columns = {"hour": [0, 7.5, 8, 12, 17.99, 18, 23]}


def test_each_hour_gets_its_version() -> None:
    params = {"day": "2", "night": "1", "opens": 9, "closes": 17}
    document = PolicyDocument(kind="office_hours", params=params, features=("hour",))
    policy = OfficeHours(document, {}, ["1", "2"], 0)
    hours = np.array([8.9, 9.0, 16.9, 17.0])
    assert policy.propensities({"hour": hours}, 4).argmax(axis=1).tolist() == [0, 1, 1, 0]
    assert policy.choose_one({"hour": 12}, draw=0).reason == "hour 12 is within 9 to 17"
