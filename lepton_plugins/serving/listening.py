"""The sockets that a server listens on: a TCP port, a Unix socket, a port held for gRPC."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

from lepton_plugins.errors import AddressTaken


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at a TCP port or at a path; AddressTaken where it can't.

    Call it before anything is loaded, so that a taken port is told at once.
    """
    if host.startswith("/"):
        return _listen_locally(host)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise AddressTaken(host, port, error.strerror or str(error)) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)  # Two servers that bind with SO_REUSEADDR only clash when they listen.
    except OSError as error:
        listener.close()
        raise AddressTaken(host, port, error.strerror or str(error)) from None
    listener.setblocking(False)
    return listener


def reserve(host: str, port: int) -> socket.socket:
    """A port for gRPC, whose servers bind it themselves: held as long as the workers come and go."""
    host = "127.0.0.1" if host.startswith("/") else host
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(address)  # Fails where anybody listens, also one who would share.
            address = (host, probe.getsockname()[1])
        reserved = socket.socket(family, socket.SOCK_STREAM)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(address)
    except OSError as error:
        reason = f"the gRPC port is in use or can't be bound ({error.strerror or error})"
        raise AddressTaken(host, port, reason, "--grpc-port") from None
    return reserved


def _listen_locally(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if stat.S_ISSOCK(_mode(path)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    Path(path).unlink()  # Left behind by a server that was killed.
        listener.bind(path)
        Path(path).chmod(0o660)
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise AddressTaken(path, None, error.strerror or str(error)) from None
    listener.setblocking(False)
    return listener


def _mode(path: str) -> int:
    try:
        return Path(path).lstat().st_mode
    except FileNotFoundError:
        return 0
