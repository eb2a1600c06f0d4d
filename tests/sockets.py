"""Where processes listen."""

from __future__ import annotations

import ipaddress

import psutil


def listening(pid: int) -> list[str]:
    """The addresses on which a process and all below it listen, as `IP`."""
    me = psutil.Process(pid)
    sockets = [each for process in [me, *me.children(recursive=True)] for each in process.net_connections("inet")]
    return [each.laddr.ip.removeprefix("::ffff:") for each in sockets if each.status == psutil.CONN_LISTEN]


def are_loopback(addresses: list[str]) -> bool:
    """Whether only this machine reaches them."""
    return all(ipaddress.ip_address(each).is_loopback for each in addresses)
