"""From a name to the addresses that may be connected to, at the moment of connecting.

The rules are the process's, set once at its start (`POLICY`): every connection to a neighbour asks them, whoever opens
it. Messages say what kind of address it is and neither name nor address: both come out of a Secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket

from vectorops.clients.hosts.rules import Address, Rules, parse, told
from vectorops.errors import Reason, Stalled


class Policy:
    """The rules that hold in this process. Before they are set: the strictest that need no setting."""

    def __init__(self) -> None:
        self.rules = Rules()

    def allow(self, text: str) -> None:
        """The rules of VECTOROPS_ALLOWED_HOSTS. Raises RulesInvalid."""
        self.rules = parse(text)


POLICY = Policy()


async def reachable(host: str, port: int) -> list[str]:
    """The addresses of `host` that may be connected to, in the resolver's order; at least one.

    Raises Stalled(HostRefused), and what the resolver raises (OSError).
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    rules = POLICY.rules
    refused: list[str] = []
    allowed: list[str] = []
    for text in addresses:
        address = ipaddress.ip_address(text)
        why = rules.refusal(host, address, is_own(address))
        if why is None:
            allowed.append(text)
        else:
            refused.append(why)
    if not allowed:
        raise refusal(told(refused))
    return allowed


def is_own(address: Address) -> bool:
    """Whether the address is of this machine: the kernel then is its own source on the way there. Sends nothing."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(address), 9))  # of UDP: nothing is sent
        return ipaddress.ip_address(probe.getsockname()[0]) == address
    return False


def refusal(why: str) -> Stalled:
    """The error for a host that is not connected to."""
    return Stalled(Reason.HostRefused, f"The host {why}, and is not connected to. {Reason.HostRefused.next_step}")
