"""The server process: a clear error where it can't start, an end however the block is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from lepton_plugins.errors import ServerNotStarted
from lepton_plugins.quickstart.server import serving


def test_a_directory_that_cannot_be_served_is_told_with_the_servers_own_words(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    started = serving(tmp_path / "nothing", log, tmp_path / "decisions")
    with pytest.raises(ServerNotStarted, match=r"exit code 2\. Its last line: error: .*nothing") as failure, started:
        pass
    assert str(log) in str(failure.value)
