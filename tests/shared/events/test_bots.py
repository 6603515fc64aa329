"""Opens and clicks made by programs: what is a sign of one, and what only looks like it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events.bots import APPLE, APPLE_NETWORKS, SCANNERS, Automation, detect_automation
from shared.vocabulary import EventType

HOME = "203.0.113.45"
RELAY = "172.225.158.176"

PEOPLE = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0 Edg/129.0.0.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Thunderbird/128.5.0",
    "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.16327; Pro)",
    "Mozilla/4.0 (compatible; ms-office; MSOffice 16)",
    "Mozilla/5.0 (Linux; Android 13; CUBOT X50) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0 Mobile",
    "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/AP2A)",
    "Nokia/2.0 (Java; U; MIDP-2.0; de) U2/1.0.0 UCBrowser/9.4 Mobile",
]
PROGRAMS = [
    "Barracuda Sentinel (EE)",
    "Mozilla/5.0 (compatible; Mimecast URL Protect)",
    "Mozilla/5.0 (compatible; proofpoint.com/urldefense)",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) Trend Micro Email Security",
    "python-requests/2.32.3",
    "Python/3.11 aiohttp/3.10.5",
    "curl/8.10.1",
    "Wget/1.21.4",
    "Go-http-client/2.0",
    "Java/17.0.2",
    "Apache-HttpClient/4.5.14 (Java/17.0.2)",
    "libwww-perl/6.77",
    "lua-resty-http/0.10 (Lua) ngx_lua/10019",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/129.0.0.0 Safari/537.36",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/534+ (KHTML, like Gecko) BingPreview/1.0b",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "facebookexternalhit/1.1",
    "Microsoft Office Existence Discovery",
    "Snap URL Preview Service; bot; snapchat; https://developers.snap.com/robots",
]
GMAIL_PREFETCH = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135"
    " Safari/537.36 Edge/12.246 Mozilla/5.0"
)
GMAIL_PROXY = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
YAHOO_PROXY = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"

LOOKED_AT = [EventType.OPENED, EventType.READ, EventType.CLICKED]


@pytest.mark.parametrize("kind", LOOKED_AT)
@pytest.mark.parametrize("user_agent", PEOPLE)
def test_mail_programs_and_browsers_are_no_sign(kind: EventType, user_agent: str) -> None:
    assert detect_automation(kind, user_agent, HOME) is None


@pytest.mark.parametrize("kind", LOOKED_AT)
@pytest.mark.parametrize("user_agent", PROGRAMS)
def test_a_program_that_names_itself_is_a_scanner(kind: EventType, user_agent: str) -> None:
    assert detect_automation(kind, user_agent, HOME) is Automation.SCANNER


@pytest.mark.parametrize("word", [word for words in SCANNERS.values() for word in words.split()])
def test_every_word_of_the_table_is_found_in_whatever_case(word: str) -> None:
    name = word.replace("_", " ").upper()
    assert detect_automation(EventType.OPENED, f"Mozilla/5.0 (compatible; {name}1.0)", HOME) is Automation.SCANNER
    assert detect_automation(EventType.OPENED, f"Mozilla/5.0 (X{name}1.0)", HOME) is None


@pytest.mark.parametrize("kind", [EventType.OPENED, EventType.READ])
@pytest.mark.parametrize("ip", [RELAY, "17.58.101.1", "2a02:26f7:c9c4:654c::9", "2A02:26F7::1", "::ffff:17.58.101.1"])
def test_apples_mail_privacy_protection_is_a_privacy_proxy(kind: EventType, ip: str) -> None:
    assert detect_automation(kind, APPLE, ip) is Automation.PRIVACY_PROXY


@pytest.mark.parametrize("network", APPLE_NETWORKS)
def test_networks_are_recognized_by_their_prefixes(network: str) -> None:
    assert network.endswith((".", ":"))
    rest = "1" if network.endswith(":") else ".".join("1" * (4 - network.count(".")))
    assert detect_automation(EventType.OPENED, APPLE, network + rest) is Automation.PRIVACY_PROXY


@pytest.mark.parametrize("ip", [None, ""])
def test_without_an_address_apples_user_agent_is_enough(ip: str | None) -> None:
    assert detect_automation(EventType.OPENED, APPLE, ip) is Automation.PRIVACY_PROXY


@pytest.mark.parametrize("ip", [HOME, "117.58.101.1", "170.1.1.1", "2a02:26f8::1", "unknown"])
def test_apples_name_from_elsewhere_is_no_sign(ip: str) -> None:
    assert detect_automation(EventType.OPENED, APPLE, ip) is None


def test_apples_proxy_follows_no_links() -> None:
    assert detect_automation(EventType.CLICKED, APPLE, RELAY) is None


def test_a_person_behind_the_relay_is_a_person() -> None:
    assert detect_automation(EventType.CLICKED, PEOPLE[2], RELAY) is None
    assert detect_automation(EventType.OPENED, PEOPLE[2], RELAY) is None


def test_gmails_prefetching_is_a_privacy_proxy() -> None:
    assert detect_automation(EventType.OPENED, GMAIL_PREFETCH, "66.249.93.202") is Automation.PRIVACY_PROXY


@pytest.mark.parametrize("user_agent", [GMAIL_PROXY, YAHOO_PROXY])
def test_a_proxy_that_fetches_when_the_message_is_opened_is_no_sign(user_agent: str) -> None:
    assert detect_automation(EventType.OPENED, user_agent, "66.249.93.202") is None


@pytest.mark.parametrize("kind", sorted(set(EventType) - set(LOOKED_AT)))
def test_only_opens_and_clicks_are_looked_at(kind: EventType) -> None:
    assert detect_automation(kind, "curl/8.10.1", HOME) is None


@pytest.mark.parametrize("user_agent", [None, ""])
def test_no_user_agent_is_no_sign_of_a_bot(user_agent: str | None) -> None:
    assert detect_automation(EventType.OPENED, user_agent, RELAY) is None


@given(st.sampled_from(EventType), st.none() | st.text(st.characters()), st.none() | st.text(st.characters()))
def test_any_name_and_any_address_can_be_judged(kind: EventType, user_agent: str | None, ip: str | None) -> None:
    found = detect_automation(kind, user_agent, ip)
    assert found is None or isinstance(found, Automation)
    assert detect_automation(kind, user_agent, ip) is found


def test_only_the_beginning_of_a_name_is_read() -> None:
    assert detect_automation(EventType.OPENED, "x" * 1_000_000 + " curl/8", HOME) is None
