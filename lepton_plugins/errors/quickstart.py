"""The quickstart: its folder, its servers, its traffic."""

from __future__ import annotations

from collections.abc import Sequence

from lepton_plugins.errors.base import LeptonError


class DirectoryUnwritable(LeptonError):
    """A directory that can't be made or written to."""

    code = "directory_unwritable"

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"Can't write to {path}: {reason}. Name another directory: lepton quickstart DIR")


class DirectoryNotOurs(LeptonError):
    """A directory that holds somebody else's files."""

    code = "directory_not_ours"

    def __init__(self, path: object, found: Sequence[str]) -> None:
        shown = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        super().__init__(
            f"{path} isn't empty and no quickstart made it (found {shown}). Nothing was touched. "
            f"Name a new or an empty directory: lepton quickstart DIR"
        )


class QuickstartRunning(LeptonError):
    """Another quickstart works in the same directory."""

    code = "quickstart_running"

    def __init__(self, path: object) -> None:
        super().__init__(f"Another quickstart is running in {path}. Wait for it, or name another directory.")


class ServerNotStarted(LeptonError):
    """A server process that didn't become ready."""

    code = "server_not_started"
    exit_code = 1

    def __init__(self, reason: str, output: str, log: object) -> None:
        last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "it wrote nothing")
        super().__init__(f"`lepton serve` didn't start: {reason}. Its last line: {last} The rest is in {log}.")


class TrafficFailed(LeptonError):
    """A request that the server didn't answer as expected."""

    code = "traffic_failed"
    exit_code = 1

    def __init__(self, path: str, found: str) -> None:
        super().__init__(f"POST {path}: expected an answer with status 200, found {found}")


class ServerUnreachable(LeptonError):
    """A Lepton server that a command was to talk to doesn't answer."""

    code = "server_unreachable"

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"The server at {server} doesn't answer: {reason}. Check the address and that it runs.")


class ServerRefused(LeptonError):
    """A Lepton server answered with an error."""

    code = "server_refused"

    def __init__(self, server: str, status: int, reason: str) -> None:
        super().__init__(f"The server at {server} answered {status}: {reason}")
