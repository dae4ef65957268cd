"""From a name to the addresses that may be connected to, at the moment of connecting.

The rules are the process's, set once at its start (`POLICY`): every connection to a neighbour asks them, whoever opens
it. Messages say what kind of address it is and neither name nor address: both come out of a Secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from functools import partial
from typing import Any

from vectorops.clients.foreign.budget import neighbour
from vectorops.clients.foreign.threads import Turns
from vectorops.clients.hosts.rules import Address, Rules, parse, told
from vectorops.errors import Reason, Stalled

LOOKUPS = 4
"""Names that one neighbour has looked up at once. A name whose servers say nothing keeps a thread for half a minute,
and a thread cannot be ended; asyncio's executor has six on two cores, and the composition root gives it more."""

_turns: dict[asyncio.AbstractEventLoop, Turns] = {}


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
    found = await _look_up(host, port)
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


async def _look_up(host: str, port: int) -> list[Any]:
    """What the resolver says. A neighbour's turn is over when the thread is, not when nobody waits for it any more."""
    loop, owner = asyncio.get_running_loop(), neighbour()
    for gone in [known for known in _turns if known.is_closed()]:
        del _turns[gone]
    turns = _turns.setdefault(loop, Turns(LOOKUPS))
    await turns.come(owner)
    looking = asyncio.ensure_future(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    looking.add_done_callback(partial(_looked_up, turns, owner))
    return await asyncio.shield(looking)


def _looked_up(turns: Turns, owner: str, looking: asyncio.Future[Any]) -> None:
    turns.over(owner)
    if not looking.cancelled():
        looking.exception()  # seen, also where nobody waits for it any more


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
