"""May this address be connected to? Pure.

Never by default: link-local addresses and those where clouds hand out a node's credentials; the operator's own pod;
what is no single host. `VECTOROPS_ALLOWED_HOSTS` narrows the rest, and only an address or a network in it that lies
within such a range opens it: a name cannot, for whoever owns it decides what it means.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

LINK_LOCAL = "is link-local, where clouds hand out the credentials of the node"
OWN = "is the operator's own pod"
NO_HOST = "is no single host"
NOT_ALLOWED = "is not among VECTOROPS_ALLOWED_HOSTS"

METADATA = tuple(
    ipaddress.ip_network(text)
    for text in ("fd00:ec2::/32", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)  # fmt: skip
"""Services like that of 169.254.169.254 at other addresses: AWS and Google by IPv6, Alibaba, Azure, Oracle. Amazon's
prefix has more than one, that of pods' credentials (fd00:ec2::23) among them."""

NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))  # RFC 6052, RFC 8215
THIS_HOST = ipaddress.IPv4Network("0.0.0.0/8")  # Linux connects to itself there

NAME = re.compile(r"\*|(\*\.)?[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?(\.[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)*")


class RulesInvalid(ValueError):
    """An entry is neither a name nor a network; the message says which."""


@dataclass(frozen=True)
class Rules:
    """What is allowed. Without entries: all but what never is."""

    names: tuple[str, ...] = ()  # lower case; `*.x` any name below x, `*` any
    networks: tuple[Network, ...] = ()

    def refusal(self, host: str, address: Address, own: bool = False) -> str | None:
        """Why `address`, which `host` means just now, is not connected to, as a clause about it; None: it may be.

        `own`: whether it is an address of this machine.
        """
        plain = embedded(address)
        within = [network for network in self.networks if plain.version == network.version and plain in network]
        if (what := special(plain)) is not None:
            opened = any(special(one.network_address) == special(one.broadcast_address) == what for one in within)
            return None if opened else what
        if own:
            return None if within else OWN
        if not (self.names or self.networks) or within or self._names(host):
            return None
        return NOT_ALLOWED

    def _names(self, host: str) -> bool:
        name = host.lower().removesuffix(".")
        return bool({"*", name} & set(self.names)) or any(
            pattern.startswith("*.") and name.endswith(pattern[1:]) for pattern in self.names
        )


def parse(text: str) -> Rules:
    """The rules of a comma list: names (`db.example`, `*.example`, `*`), addresses, networks. Raises RulesInvalid."""
    names: list[str] = []
    networks: list[Network] = []
    for entry in filter(None, (part.strip().lower() for part in text.split(","))):
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError:
            if not NAME.fullmatch(entry) or re.fullmatch(r"[0-9./]+", entry):
                raise RulesInvalid(f'no name, no address, no network: "{entry[:100]}"') from None
            names.append(entry)
    return Rules(tuple(names), tuple(networks))


def special(address: Address) -> str | None:
    """Why the address is one of those that nobody means, or None."""
    if address.is_link_local or any(address in network for network in METADATA):
        return LINK_LOCAL
    if address.is_loopback or address.is_unspecified or (address.version == 4 and address in THIS_HOST):
        return OWN
    if address.is_multicast or (address.version == 4 and address.is_reserved):
        return NO_HOST
    return None


def embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for (mapped, 6to4, NAT64), else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if any(address in network for network in NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def told(reasons: Sequence[str]) -> str:
    """One of several reasons: the gravest, which is the one that no list of allowed hosts explains."""
    return next((reason for reason in reasons if reason != NOT_ALLOWED), NOT_ALLOWED)
