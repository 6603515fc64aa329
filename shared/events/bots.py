"""Machine opens and clicks: made by mail-privacy proxies and security scanners rather than by a person.

They are flagged, never dropped, and counted like any other; the reader of the figures decides. The flag depends on
the event alone, not on earlier events, so that the order of events does not matter.

Sources: Apple's "Prepare your network for iCloud Private Relay" and its list of egress addresses; senders'
measurements of Mail Privacy Protection; SparkPost's measurements of Gmail's prefetching; Google's and Yahoo's pages
about their image proxies; the programs' own user agents.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache

from shared.vocabulary import EventType


class Automation(StrEnum):
    """The kind of program that opened or clicked."""

    PRIVACY_PROXY = "privacy_proxy"
    SCANNER = "scanner"


APPLE = "Mozilla/5.0"
"""The whole user agent of Mail Privacy Protection; every mail program and browser sends a longer one."""

APPLE_NETWORKS: Mapping[str, str] = {
    "17.": "Apple, 17.0.0.0/8",
    "104.28.": "iCloud relay at Cloudflare, 104.28.0.0/16",
    "140.248.": "iCloud relay at Fastly, 140.248.0.0/16",
    "146.75.": "iCloud relay at Fastly, 146.75.0.0/16",
    "172.224.": "iCloud relay at Akamai, 172.224.0.0/16",
    "172.225.": "iCloud relay at Akamai, 172.225.0.0/16",
    "172.226.": "iCloud relay at Akamai, 172.226.0.0/16",
    "2606:54c0:": "iCloud relay at Cloudflare, 2606:54c0::/32",
    "2606:54c3:": "iCloud relay at Cloudflare, 2606:54c3::/32",
    "2a02:26f7:": "iCloud relay at Akamai, 2a02:26f7::/32",
    "2a04:4e41:": "iCloud relay at Fastly, 2a04:4e41::/32",
    "2a09:bac2:": "iCloud relay at Cloudflare, 2a09:bac2::/32",
    "2a09:bac3:": "iCloud relay at Cloudflare, 2a09:bac3::/32",
}
"""Prefixes of the addresses that Apple fetches from; they cover its published list.

An address alone is not a sign of a machine: people who browse through iCloud Private Relay use the same addresses.
"""

PREFETCHERS: Mapping[str, str] = {
    "mozilla/5.0 (windows nt 10.0; win64; x64) applewebkit/537.36 (khtml, like gecko) chrome/42.0.2311.135 "
    "safari/537.36 edge/12.246 mozilla/5.0": "Gmail, which prefetches mail that arrives while its window is open",
}
"""Complete user agents, in lower case, that fetch the images of a message before anybody opens it."""

OPENED_BY_PERSON: Mapping[str, str] = {
    "googleimageproxy": "Gmail fetches when the message is opened, and keeps the image from then on",
    "yahoomailproxy": "Yahoo fetches when the message is shown",
    "ms-office": "Outlook on the desktop, which shows the message",
    "microsoft outlook": "Outlook on the desktop, which shows the message",
}
"""Parts of user agents of proxies that fetch because a person opened the message; not flagged."""

SCANNERS: Mapping[str, str] = {
    "security filters that open what they deliver": (
        "barracuda mimecast proofpoint urldefense messagelabs symantec forcepoint websense ironport ciscosecureemail"
        " trendmicro trend_micro sophos fortiguard fortimail safelinks fireeye trellix avanan zscaler netskope"
        " cloudmark vadesecure hornetsecurity spamtitan mailguard mailmarshal netcraft urlscan virustotal"
        " google-safety palo_alto_networks scanner"
    ),
    "link previews and link checkers": (
        "bingpreview skypeuripreview facebookexternalhit facebookexternalua whatsapp web_preview url_preview"
        " google-pagerenderer checklink microsoft_office_existence_discovery microsoft_office_protocol_discovery"
        " microsoft-webdav-miniredir microsoft_url_control"
    ),
    "libraries and tools": (
        "curl wget httpie python python-requests python-urllib python-httpx aiohttp go-http-client java/"
        " apache-httpclient jakarta libwww-perl lwp axios node-fetch undici guzzlehttp php/ ruby faraday scrapy"
        " winhttp windowspowershell lua-resty-http postmanruntime ahc/ jetty reqwest zgrab masscan"
        " amazon_cloudfront hubspot_connect"
    ),
    "headless browsers": "headless headlesschrome phantomjs puppeteer playwright selenium htmlunit",
    "robots": "crawler spider slurp",
}
"""Words in user agents, with "_" for a space. Words that end in "bot" count too, except Cubot, a maker of phones."""

_EVENT_TYPES = frozenset({EventType.OPENED, EventType.READ, EventType.CLICKED})
_MAX_USER_AGENT_CHARS = 512
_WORDS = "|".join(re.escape(word).replace("_", " ") for words in SCANNERS.values() for word in words.split())
_SCANNER = re.compile(rf"(?<![a-z0-9])(?:{_WORDS})(?![a-z])|(?<!cu)bot(?![a-z])")
_NETWORKS = tuple(APPLE_NETWORKS)


def detect_automation(event_type: EventType, user_agent: str | None, ip: str | None) -> Automation | None:
    """Return the kind of program that caused an open, read or click; None if nothing points to one."""
    if not user_agent or event_type not in _EVENT_TYPES:
        return None
    if user_agent == APPLE:
        # Mail Privacy Protection fetches images and follows no links. If the address is known, it must be Apple's.
        from_apple = not ip or ip.lower().removeprefix("::ffff:").startswith(_NETWORKS)
        return Automation.PRIVACY_PROXY if event_type is not EventType.CLICKED and from_apple else None
    return _detect_by_user_agent(user_agent[:_MAX_USER_AGENT_CHARS])


# A few thousand user agents cause nearly all opens.
@lru_cache(maxsize=2048)
def _detect_by_user_agent(user_agent: str) -> Automation | None:
    name = user_agent.lower()
    if name in PREFETCHERS:
        return Automation.PRIVACY_PROXY
    if any(part in name for part in OPENED_BY_PERSON):
        return None
    return Automation.SCANNER if _SCANNER.search(name) else None
