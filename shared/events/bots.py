"""Opens and clicks that nobody need have made: mail-privacy proxies, and programs that check what they deliver.

They are flagged, never dropped, and counted like any other: whether a person read is for whoever asks to judge.
The flag follows from the event alone, never from what came before it, so that the order of events does not matter.

Sources: Apple's "Prepare your network for iCloud Private Relay" with its list of egress addresses, and what senders
have measured of Mail Privacy Protection; what SparkPost has measured of Gmail's prefetching; Google's and Yahoo's
pages of their image proxies; what the programs call themselves.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache

from shared.vocabulary import EventType


class Automation(StrEnum):
    """Who opened or clicked instead of a person."""

    PRIVACY_PROXY = "privacy_proxy"
    SCANNER = "scanner"


APPLE = "Mozilla/5.0"
"""All that Mail Privacy Protection says of itself: no mail program and no browser says as little."""

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
"""How the addresses begin that Apple fetches from: the networks that hold the hundreds of thousands it publishes.

By themselves they are no sign: a person who browses through the relay comes from there too.
"""

PREFETCHERS: Mapping[str, str] = {
    "mozilla/5.0 (windows nt 10.0; win64; x64) applewebkit/537.36 (khtml, like gecko) chrome/42.0.2311.135 "
    "safari/537.36 edge/12.246 mozilla/5.0": "Gmail, which fetches what arrives while its window is open",
}
"""User agents, exactly, that fetch the images of a message before anybody opens it."""

SEEN_BY_A_PERSON: Mapping[str, str] = {
    "googleimageproxy": "Gmail fetches when the message is opened, and keeps the image from then on",
    "yahoomailproxy": "Yahoo fetches when the message is shown",
    "ms-office": "Outlook on the desktop, which shows the message",
    "microsoft outlook": "Outlook on the desktop, which shows the message",
}
"""Parts of user agents that sound like a program, but fetch because a person opened the message: no sign."""

SCANNERS: Mapping[str, str] = {
    "filters that open what they deliver": (
        "barracuda mimecast proofpoint urldefense messagelabs symantec forcepoint websense ironport ciscosecureemail"
        " trendmicro trend_micro sophos fortiguard fortimail safelinks fireeye trellix avanan zscaler netskope"
        " cloudmark vadesecure hornetsecurity spamtitan mailguard mailmarshal netcraft urlscan virustotal"
        " google-safety palo_alto_networks scanner"
    ),
    "previews and checks of links": (
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
    "browsers without a window": "headless headlesschrome phantomjs puppeteer playwright selenium htmlunit",
    "robots": "crawler spider slurp",
}
"""Words of user agents, "_" for a blank. A word that ends in "bot" is one too, but for the telephones of Cubot."""

_LOOKED_AT = frozenset({EventType.OPENED, EventType.READ, EventType.CLICKED})
_LONGEST = 512
_WORDS = "|".join(re.escape(word).replace("_", " ") for words in SCANNERS.values() for word in words.split())
_SCANNER = re.compile(rf"(?<![a-z0-9])(?:{_WORDS})(?![a-z])|(?<!cu)bot(?![a-z])")
_NETWORKS = tuple(APPLE_NETWORKS)


def detect(event_type: EventType, user_agent: str | None, ip: str | None) -> Automation | None:
    """Whether a program made an event; None where there is no sign of it, and for events of other kinds."""
    if not user_agent or event_type not in _LOOKED_AT:
        return None
    if user_agent == APPLE:
        # It fetches images, and follows no links. Where the address is known it must agree.
        fetched = event_type is not EventType.CLICKED and (not ip or _is_apples(ip))
        return Automation.PRIVACY_PROXY if fetched else None
    return _judge(user_agent[:_LONGEST])


def _is_apples(ip: str) -> bool:
    return ip.lower().removeprefix("::ffff:").startswith(_NETWORKS)


# A few thousand user agents make nearly all opens.
@lru_cache(maxsize=2048)
def _judge(user_agent: str) -> Automation | None:
    name = user_agent.lower()
    if name in PREFETCHERS:
        return Automation.PRIVACY_PROXY
    if any(part in name for part in SEEN_BY_A_PERSON):
        return None
    return Automation.SCANNER if _SCANNER.search(name) else None
