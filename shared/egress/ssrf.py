"""Protection from server-side request forgery: only public addresses, and networks that the operator allows.

A name can resolve to another address at every connection (DNS rebinding), so the address that it had when the URL was
registered proves nothing. `is_allowed` decides about the address of each connection; `check_url` refuses early, with
a message, what would fail then anyway.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

from shared.egress.dns import Lookup, look_up, look_up_within
from shared.errors import InvalidFieldError
from shared.http.urls import is_printable

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_MAX_URL_LENGTH = 2048
_NOT_IN_URLS = frozenset('\\"<>^`{|}')  # printable, but not in any URI (RFC 3986, 2)
_MAX_CACHED_URLS = 4096
LOOKUP_SECONDS = 5.0
_PORTS = {"http": 80, "https": 443}
_LOCAL = "localhost"  # libcurl knows it and all below it (RFC 6761, 6.3)
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?", re.IGNORECASE)
_FINAL_DOT = re.compile(r"^(https?://[^/?#:@]*[^/?#:@.])\.(?=[/?#:]|$)", re.IGNORECASE)
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
"""A last label that resolvers may read as part of an IPv4 address, in any base."""

# IANA's registries of special-purpose addresses (RFC 6890 and successors), and the metadata addresses of clouds.
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
"""Global unicast. Loopback, mapped, NAT64 and link-local addresses are outside it."""
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


def is_public(address: Address) -> bool:
    """Return whether this address is reachable from the whole internet, by its number alone."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    return address.scope_id is None and address in _OPEN_V6 and not any(address in network for network in _CLOSED_V6)


def is_allowed(address: str, allow: Sequence[Network] = ()) -> bool:
    """Return whether a connection to this address is allowed: it is public, or in a network of `allow`."""
    try:
        target = ip_address(address)
    except ValueError:
        return False
    forms = {target, getattr(target, "ipv4_mapped", None) or target}
    return is_public(target) or any(
        form in network for form in forms for network in allow if form.version == network.version
    )


def check_url(url: str, allow: Sequence[Network] = (), lookup: Lookup = look_up) -> None:
    """Raise InvalidFieldError unless this URL is well-formed and resolves to public or allowed addresses.

    Any port but 0 is accepted. The lookup blocks for up to 5 seconds.
    """
    parts = _split(url)
    host = str(parts.hostname)
    try:
        addresses = [host] if _literal(host) else look_up_within(host, LOOKUP_SECONDS, lookup)
    except (OSError, UnicodeError) as error:
        raise InvalidFieldError("url", url, f"{host} cannot be resolved: {error}") from None
    for address in addresses:
        if not is_allowed(address, allow):
            # Without the address: tenants read this, and internal names resolve here.
            raise InvalidFieldError(
                "url",
                url,
                f"{host} is not a public address, or does not resolve to one. "
                "The operator can allow a private network with TIDINGS_EGRESS_ALLOW.",
            )


@lru_cache(maxsize=_MAX_CACHED_URLS)
def name_to_resolve(url: str) -> tuple[str, int] | None:
    """Return the host name and port to resolve before this URL can be called; None if no lookup is needed.

    None also for a URL whose form `check_url` refuses: libcurl reports what is wrong with it.
    """
    try:
        parts = urlsplit(url)
        name, port = (parts.hostname or "").removesuffix("."), parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    if "@" in parts.netloc or not port or _literal(name) or not _is_name(name):
        return None
    return None if name == _LOCAL or name.endswith(f".{_LOCAL}") else (name, port)


def without_final_dot(url: str) -> str:
    """Return the URL whose host has no final dot, which name servers ignore and certificates do not contain."""
    return _FINAL_DOT.sub(r"\1", url)


def _split(url: str) -> SplitResult:
    if len(url) > _MAX_URL_LENGTH or not is_printable(url) or not _NOT_IN_URLS.isdisjoint(url):
        raise InvalidFieldError(
            "url",
            url,
            f"a URL may have up to {_MAX_URL_LENGTH} characters, all printable ASCII. "
            "Write international host names as xn--… and percent-encode other characters.",
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidFieldError("url", url, f"this is not a valid URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InvalidFieldError(
            "url",
            url,
            "a URL must start with http:// or https:// and name a host, such as https://hooks.example.com/mail",
        )
    if "@" in parts.netloc:
        raise InvalidFieldError(
            "url", url, "a URL must not contain a user name or password. Use a static header instead."
        )
    if not _literal(parts.hostname) and not _is_name(parts.hostname):
        raise InvalidFieldError(
            "url", url, f"{parts.hostname} is neither a host name nor an IP address in its usual form"
        )
    return parts


def _literal(host: str) -> bool:
    """Return whether this is an IP address in its usual form: four decimal numbers, or IPv6 without a zone."""
    try:
        return "%" not in host and bool(ip_address(host))
    except ValueError:
        return False


def _is_name(host: str) -> bool:
    """Return whether this is a host name. Not a number such as 0x7f000001, which resolvers interpret differently."""
    return bool(_HOST_NAME.fullmatch(host)) and not _NUMERIC.fullmatch(host.removesuffix(".").rpartition(".")[2])
