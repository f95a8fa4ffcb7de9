"""Limits as people write them."""

from __future__ import annotations

import pytest

from lepton_plugins.errors import InvalidInput
from lepton_plugins.serving.limiting import limits_from
from lepton_plugins.serving.settings import Limits


def test_limits_come_from_the_environment_and_what_is_given_goes_before():
    assert limits_from({}) == Limits()
    environ = {"LEPTON_LIMITS": "body=64Mi, rows=10,body_time=500ms"}
    limits = limits_from(environ, {"rows": "7", "part_time": "2"})
    assert limits == Limits(body=64 << 20, rows=7, body_time=0.5, part_time=2.0)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("body", "LEPTON_LIMITS: found 'body', expected NAME=VALUE, joined by commas."),
        ("size=1", "Found the limit 'size', expected one of body, header, rows, tensors, body_time"),
        ("body_time=soon", "The limit body_time: found 'soon', expected a duration such as 50ms or 10s."),
        ("in_flight=0", "Limits: in_flight: Input should be greater than 0."),
    ],
)
def test_what_is_no_limit_is_told(said, told):
    with pytest.raises(InvalidInput) as refused:
        limits_from({"LEPTON_LIMITS": said})
    assert str(refused.value).startswith(told)
