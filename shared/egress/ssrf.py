"""Where deliveries may go: public addresses, and those that the operator allows besides.

A name is looked up again at every connection, so what it resolved to when the URL was registered proves nothing (DNS
rebinding). What counts is `is_allowed`, asked about the very address that is dialled; `check_url` says early, and in
words, what would be refused then anyway.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from shared.egress.dns import Lookup, look_up, look_up_within
from shared.errors import TidingsError

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_LONGEST_URL = 2048
_URLS_READ = 4096
_LOOKUP_SECONDS = 5.0
_PORTS = {"http": 80, "https": 443}
_LOCAL = "localhost"  # libcurl knows it and all below it (RFC 6761, 6.3)
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.IGNORECASE)
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
"""A last label that a resolver may take for a part of an IPv4 address, in whatever base."""

# IANA's registries of special-purpose addresses (RFC 6890 and successors), and what clouds answer machines on.
_CLOSED_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by carriers; also a cloud's metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # public by its number, but inside a cloud its host
            "169.254.0.0/16",  # link-local; clouds' metadata
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments; also a cloud's metadata
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
_OPEN_V6 = IPv6Network("2000::/3")
"""All that is given out as global unicast: loopback, mapped, NAT64, link-local and the like are outside."""
_CLOSED_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "3fff::/20",  # documentation
        ),
    )
)


class EgressError(TidingsError):
    """A URL that nothing is delivered to; the message says why, and what it should be."""


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could reach this address, as far as its number tells."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    return address.scope_id is None and address in _OPEN_V6 and not any(address in network for network in _CLOSED_V6)


def is_allowed(address: str, allow: Sequence[Network] = ()) -> bool:
    """Whether this address may be dialled: it is public, or in one of the networks that the operator allows."""
    try:
        dialled = ip_address(address)
    except ValueError:
        return False
    forms = {dialled, getattr(dialled, "ipv4_mapped", None) or dialled}
    return is_public(dialled) or any(
        form in network for form in forms for network in allow if form.version == network.version
    )


def check_url(url: str, allow: Sequence[Network] = (), lookup: Lookup = look_up) -> None:
    """Raise EgressError unless deliveries can be made to this URL: well-formed, resolved, and public or allowed.

    Any port but 0 will do. Looks the name up, and waits some seconds for that.
    """
    parts = _split(url)
    host = str(parts.hostname)
    addresses = [host] if _literal(host) else _resolve(host, lookup)
    for address in addresses:
        if not is_allowed(address, allow):
            # Without the address: whoever asks may be a tenant, and names of inside resolve here.
            raise EgressError(f"{host} is not a public address, or not at one; see TIDINGS_EGRESS_ALLOW")


@lru_cache(maxsize=_URLS_READ)
def name_in(url: str) -> tuple[str, int] | None:
    """The name that has to be looked up before this URL can be called, and the port; None where there is nothing to.

    What `check_url` would refuse for its form is nothing either: libcurl has its own way with it.
    """
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    if "@" in parts.netloc or not port or _literal(name) or not _is_name(name):
        return None
    return None if name == _LOCAL or name.endswith(f".{_LOCAL}") else (name, port)


def _split(url: str) -> SplitResult:
    if len(url) > _LONGEST_URL or not url.isascii() or any(sign <= " " or sign in '\x7f\\"<>^`{|}' for sign in url):
        raise EgressError(
            f"a URL has at most {_LONGEST_URL} printable ASCII characters: write other names as xn--…, quote the rest"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise EgressError(f"this is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise EgressError("a URL should be such as https://hooks.example.com/mail")
    if "@" in parts.netloc:
        raise EgressError("a URL must not hold a user name or password; use a static header")
    if not _literal(parts.hostname) and not _is_name(parts.hostname):
        raise EgressError(f"{parts.hostname} is neither the name of a host nor an address in its usual form")
    return parts


def _literal(host: str) -> bool:
    """Whether this is an address in its usual form: four decimal numbers, or IPv6 without a zone."""
    try:
        return "%" not in host and bool(ip_address(host))
    except ValueError:
        return False


def _is_name(host: str) -> bool:
    """A name, and not a number in disguise: those are resolvers' own business, and they differ."""
    return bool(_HOST_NAME.fullmatch(host)) and not _NUMERIC.fullmatch(host.rpartition(".")[2])


def _resolve(host: str, lookup: Lookup) -> Sequence[str]:
    try:
        return look_up_within(host, _LOOKUP_SECONDS, lookup)
    except (OSError, UnicodeError) as error:
        raise EgressError(f"{host} cannot be resolved: {error}") from None
