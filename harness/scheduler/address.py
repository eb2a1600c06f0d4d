"""Check the address of a Ray cluster."""

from __future__ import annotations

import socket

from ..errors import UserError


def reachable(address: str, seconds: float = 10.0) -> None:
    """Raise UserError where nothing listens at `host:port` within some seconds: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit():
        raise UserError(f"--address {address}: must be host:port, or auto on a machine of the cluster")
    try:
        socket.create_connection((host, int(port)), timeout=seconds).close()
    except OSError as error:
        raise UserError(f"--address {address}: nothing listens there: {error}") from error
