"""The console in Chromium, walked as a person would: each page, live, by keyboard, and without JavaScript."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from cli.embedded.server import eventually
from simulator.providers.ark.api import ArkAccount
from simulator.providers.ark.webhooks import Ark
from simulator.server import ProviderServer
from tests.support import alerts, http_sink
from tests.support.api_server import Served, served
from tests.support.databases import DatabasePool
from tests.support.servers import PATIENCE_SECONDS
from tests.support.system import ADMIN_KEY, BEGIN, HANDLE, LOOPBACK, System, mailchannels_event, open_system
from workers import process_receipts

AXE = Path(__file__).parents[2] / "support/vendor/axe-4.14.1.min.js"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian's package `chromium`).")


@dataclass
class Visitor:
    """A browser's window on the console, and everything that went wrong in it."""

    page: Page
    base: str
    faults: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        """Open a page."""
        self.page.goto(f"{self.base}{path}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        binary = Path("/usr/lib/chromium/chromium")  # Debian's script around it prints warnings
        path = str(binary) if binary.exists() else CHROMIUM
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=120_000)
        expect.set_options(timeout=PATIENCE_SECONDS * 1000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def system(databases: DatabasePool) -> Iterator[System]:
    """A system with some mail, a dead delivery, a suppression and an alert."""
    with (
        databases.database() as url,
        open_system(url, begin=BEGIN, egress_allow=LOOPBACK) as system,
        http_sink.http_sink() as sink,
    ):
        system.create_source("shop", customer_handles=[HANDLE])
        system.create_subscription(f"{sink.url}/crm", ("message.*",), name="crm")
        nadia: dict[str, Any] = {"request_id": "request-nadia", "smtp_id": "<nadia@shop.example>"}
        system.process_events(
            mailchannels_event("processed", "nadia@post.example", subject="Invoice 2003", **nadia),
            mailchannels_event(
                "hard-bounced",
                "nadia@post.example",
                second=9,
                reason="550 5.1.1 User unknown",
                subject=HOSTILE,
                **nadia,
            ),
            slug="shop",
        )
        system.process_events(mailchannels_event("delivered", "ines@post.example", request_id="r-ines"), slug="shop")
        system.deliver()
        system.execute(
            "UPDATE deliveries SET status = 'dead', dead_at = now(), last_http_status = 404, delivered_at = NULL"
        )
        system.call("POST", "/v1/suppressions", {"address": "nadia@post.example", "note": HOSTILE})
        with system.engine.begin() as connection:
            alerts.fire(connection, rule="bounce-rate", summary=f"Bounce rate of shop is 7.3 % {HOSTILE}")
        yield system


@pytest.fixture(scope="module")
def server(system: System) -> Iterator[Served]:
    with served(
        system.database_url, TIDINGS_SECRET_KEYS=system.secret_key, TIDINGS_EGRESS_ALLOW="127.0.0.0/8"
    ) as server:
        yield server


def open_context(browser: Browser, **options: Any) -> BrowserContext:
    context = browser.new_context(timezone_id="Europe/Berlin", **options)
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    return context


@pytest.fixture
def visitor(browser: Browser, server: Served) -> Iterator[Visitor]:
    """A signed-in window. At the end: no violation of the policy, no error of a script, no request elsewhere."""
    context = open_context(browser, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    visitor = Visitor(page, f"http://127.0.0.1:{server.port}")
    page.on("console", lambda message: visitor.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: visitor.faults.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(visitor.base) else visitor.faults.append(request.url),
    )
    sign_in(visitor)
    yield visitor
    assert "owned" not in page.title()
    context.close()
    assert not visitor.faults


def sign_in(visitor: Visitor) -> None:
    visitor.go("/console/")
    visitor.page.get_by_label("API key").fill(ADMIN_KEY)
    visitor.page.get_by_role("button", name="Sign in with the key").click()
    expect(visitor.page.get_by_role("heading", name="Overview")).to_be_visible()
    visitor.page.wait_for_load_state()  # the heading is shown before the scripts run, and keys do nothing until then


def test_support_finds_a_bounced_mail_and_lifts_its_suppression(visitor: Visitor) -> None:
    page = visitor.page
    page.keyboard.press("/")
    page.keyboard.type("nadia@post.example")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="nadia@post.example").first.click()
    expect(page.locator("#verdict")).to_contain_text("bounced")
    expect(page.locator("#recipients")).to_contain_text("550 5.1.1 User unknown")
    expect(page.locator("main")).not_to_contain_text("5.1.1 550")
    expect(page.locator("#timeline time").first).to_contain_text("UTC")
    expect(page.locator("#timeline .local").first).to_contain_text("GMT+1")
    page.locator("#recipients").get_by_role("link", name="nadia@post.example").click()
    expect(page.locator(".verdict")).to_contain_text("All mail is suppressed since")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Lift").click()
    expect(page.get_by_role("status")).to_contain_text("1 lifted.")
    expect(page.locator(".verdict")).to_contain_text("not suppressed")


def test_an_operator_replays_dead_deliveries(visitor: Visitor, system: System) -> None:
    page = visitor.page
    visitor.go("/console/deliveries?status=dead")
    expect(page.get_by_role("button", name="Replay selected")).to_be_disabled()
    boxes = page.locator("input[name=id]")
    boxes.first.click()
    boxes.last.click(modifiers=["Shift"])
    assert page.locator("input[name=id]:checked").count() == boxes.count() == 2
    page.get_by_role("button", name="Replay selected").click()
    expect(page.get_by_role("status")).to_contain_text("2 deliveries are queued again.")
    system.deliver()
    visitor.go("/console/deliveries?status=dead")
    expect(page.get_by_text("Nothing matches.")).to_be_visible()


def test_what_is_opened_while_a_live_part_is_fetched_stays_open(visitor: Visitor, system: System) -> None:
    page, held = visitor.page, list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    path = f"/console/deliveries/{system.list_deliveries()[0]['id']}"
    visitor.go(path)
    page.route(f"**{path}", hold)
    while not held:
        page.wait_for_timeout(100)  # the page looks every ten seconds
    details = page.locator("#attempts details").first
    details.locator("summary").click()
    with page.expect_request_finished(lambda request: request == held[0].request):
        held[0].continue_()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    assert details.get_attribute("open") is not None


def test_the_overview_draws_the_figures_of_its_tables(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/console/?span=24h")
    expect(page.locator("#flow-title")).to_contain_text("per hour")
    expect(page.locator(".chart canvas")).to_have_count(2)
    page.get_by_text("As a table").first.click()
    expect(page.locator("#flow tbody tr")).to_have_count(24)


def test_on_a_phone_what_is_done_to_rows_stays_in_reach(visitor: Visitor) -> None:
    page = visitor.page
    page.set_viewport_size({"width": 390, "height": 500})
    visitor.go("/console/deliveries")
    page.locator("tbody tr").last.scroll_into_view_if_needed()
    expect(page.get_by_role("button", name="Replay selected")).to_be_in_viewport()
    visitor.go("/console/suppressions")
    page.get_by_role("link", name="Suppress", exact=True).click()
    expect(page.get_by_label("Note")).to_be_in_viewport()
    page.set_viewport_size({"width": 1280, "height": 900})
    expect(page.get_by_role("link", name="Suppress", exact=True)).to_be_hidden()  # the form is beside the list


def test_an_alert_is_acknowledged_from_the_overview(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/console/")
    need = page.locator("#needs li", has_text="bounce-rate")
    need.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_role("status")).to_contain_text("acknowledged")
    page.get_by_role("link", name="bounce-rate").click()
    expect(page.get_by_text("by TIDINGS_ADMIN_KEY").first).to_be_visible()


def test_an_administrator_makes_and_edits_a_rule(visitor: Visitor, system: System) -> None:
    page = visitor.page
    visitor.go("/console/alerts")
    page.get_by_role("link", name="Rules").click()
    page.get_by_role("link", name="New rule").click()
    page.get_by_label("Name *").fill("many-complaints")
    page.get_by_label("Rate *").select_option("complaint")
    page.locator("input[name=warning]").fill("0.2")
    page.locator("input[name=critical]").fill("0.1")
    page.get_by_role("button", name="Create the rule").click()
    expect(page.get_by_role("alert")).to_contain_text("more than the warning")
    assert ["422" in fault for fault in visitor.faults] == [True]  # the browser says so of the refusal
    visitor.faults.clear()
    page.locator("input[name=critical]").fill("0.4")
    page.get_by_role("button", name="Create the rule").click()
    expect(page.get_by_role("status")).to_contain_text("in force")
    page.locator("input[name=warning]").fill("0.3")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("in force")
    found = system.get("/v1/alert-rules/many-complaints")
    assert (found["rate"], found["warning"], found["critical"]) == ("complaint", 0.3, 0.4)


def test_a_source_of_a_queue_is_made_and_its_settings_are_changed(visitor: Visitor, system: System) -> None:
    page = visitor.page
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"
    visitor.go("/console/sources/new?provider=ses")
    page.get_by_label("Name *").fill("queued")
    page.get_by_label("Queue", exact=False).first.fill(url)
    page.get_by_label("access_key_id").fill("AKIAIOSFODNN7EXAMPLE")
    page.get_by_label("secret_access_key").fill("s" * 40)
    page.get_by_role("button", name="Create the source").click()
    expect(page.get_by_text("Have ses fill this queue")).to_be_visible()
    page.get_by_text("Change settings").click()
    changed = {"queue": {"url": f"{url}-2"}, "pull_suppressions": "never"}
    page.get_by_label("All settings").fill(json.dumps(changed))
    page.get_by_role("button", name="Save the settings").click()
    expect(page.get_by_role("status")).to_contain_text("The settings were changed.")
    page.get_by_text("Change settings").click()
    page.get_by_label("All settings").fill(f"queue:\n  url: {url}-2\n")  # YAML, without the other one
    page.get_by_role("button", name="Save the settings").click()
    expect(page.get_by_role("status")).to_contain_text("The settings were changed.")
    assert system.get("/v1/sources/queued")["settings"] == {"queue": {"url": f"{url}-2"}}


def test_a_described_provider_is_connected_and_a_wrong_mapping_is_not_lost(visitor: Visitor, system: System) -> None:
    page = visitor.page
    visitor.go("/console/sources/new?provider=generic")
    page.get_by_label("Name *").fill("described")
    page.get_by_label("secrets").fill("hunter2-hunter2-hunter2")
    mapping = "authentication: {kind: hmac, header: X-Signature}\nfields: {type: event}\ntypes: {sent: shipped}\n"
    page.get_by_label("Mapping").fill(mapping)
    page.get_by_role("button", name="Create the source").click()
    expect(page.get_by_role("alert")).to_contain_text("settings.generic.types.sent must be one of")
    assert ["422" in fault for fault in visitor.faults] == [True]  # the browser says so of the refusal
    visitor.faults.clear()
    page.get_by_label("Mapping").fill(page.get_by_label("Mapping").input_value().replace("shipped", "sent"))
    page.get_by_label("secrets").fill("hunter2-hunter2-hunter2")
    page.get_by_role("button", name="Create the source").click()
    expect(page.get_by_role("status")).to_contain_text("ready for its first event")
    assert system.get("/v1/sources/described")["settings"]["generic"]["types"] == {"sent": "sent"}


def test_an_import_is_watched_until_it_is_done(visitor: Visitor, system: System) -> None:
    page = visitor.page
    visitor.go("/console/suppressions")
    page.get_by_role("link", name="Import, export").click()
    page.get_by_label("Or lines").fill("address,note\nzoe@post.example,asked us\nyan@post.example,\n")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("The import has begun.")
    expect(page.locator("#progress")).to_contain_text("queued")
    system.run_jobs()
    expect(page.locator("#progress h2")).to_contain_text("done")
    visitor.go("/console/suppressions/zoe@post.example")
    expect(page.locator(".verdict")).to_contain_text("All mail is suppressed since")


def test_all_that_match_are_counted_before_they_are_replayed(visitor: Visitor, system: System) -> None:
    page = visitor.page
    system.execute("UPDATE deliveries SET status = 'dead', dead_at = now(), delivered_at = NULL WHERE status <> 'dead'")
    visitor.go("/console/deliveries?status=dead")
    number = page.locator("input[name=id]").count()
    page.get_by_role("button", name="Replay all that match").click()
    expect(page.locator("#progress")).to_contain_text("queued")  # so the job exists
    system.run_jobs()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name=f"Replay these {number}").click()
    expect(page.get_by_role("status")).to_contain_text("The job replays them.")
    system.run_jobs()
    expect(page.locator("#progress h2")).to_contain_text("done")


def test_dead_receipts_are_processed_again_some_and_all_after_a_count(visitor: Visitor, system: System) -> None:
    page = visitor.page
    page.on("dialog", lambda dialog: dialog.accept())
    for number in range(4):
        system.queue_body(b"not JSON %d" % number, "shop")
    process_receipts.process_due(system.ctx)
    visitor.go("/console/receipts?state=dead&source=shop")
    assert page.locator("input[name=id]").count() == 4
    page.locator("input[name=id]").first.click()
    page.get_by_role("button", name="Process selected again").click()
    expect(page.get_by_role("status")).to_contain_text("1 receipt is queued to be processed again.")
    expect(page.get_by_label("State")).to_have_value("dead")
    expect(page.locator("input[name=id]")).to_have_count(3)
    page.get_by_role("button", name="Process all that match again").click()
    expect(page.locator("#progress")).to_contain_text("queued")  # so the job exists
    system.run_jobs()
    page.get_by_role("button", name="Process these 3 again").click()
    expect(page.get_by_role("status")).to_contain_text("The job queues them")
    system.run_jobs()
    expect(page.locator("#progress h2")).to_contain_text("done")
    assert system.list_items("/v1/receipts", state="dead") == []
    visitor.go("/console/receipts?state=unverified")
    expect(page.get_by_role("button", name="Process all")).to_have_count(0)


def test_a_source_is_connected_and_its_first_event_appears_by_itself(visitor: Visitor, system: System) -> None:
    page = visitor.page
    visitor.go("/console/sources")
    page.get_by_role("link", name="Connect a source").first.click()
    page.get_by_role("link", name="mailchannels").click()
    expect(page.get_by_text("https://<your host>/webhooks/NAME", exact=True)).to_be_visible()
    page.get_by_label("Name *").fill("news")
    page.get_by_label("Public address of the receiver").fill("https://hooks.example.com")
    page.get_by_label("customer_handles").fill(HANDLE)
    page.get_by_role("button", name="Create the source").click()
    expect(page.get_by_text("https://hooks.example.com/webhooks/news").first).to_be_visible()
    expect(page.get_by_text("Waiting for the first event")).to_be_visible()
    expect(page.locator(".live.on")).to_be_visible()
    event = mailchannels_event("delivered", "omar@post.example", request_id="request-omar")
    system.process_events(event, slug="news")
    expect(page.locator("#events")).to_contain_text("omar@post.example")


def test_a_webhook_is_registered_at_the_provider_and_removed(visitor: Visitor, system: System) -> None:
    page, dialect, url = visitor.page, Ark(), "https://hooks.example.com/webhooks/bills"
    page.on("dialog", lambda dialog: dialog.accept())
    with ProviderServer({"bills": dialect}) as provider:
        system.add_source("bills", "ark", dialect.credentials(), **provider.settings("bills"))
        visitor.go("/console/sources/bills")
        page.get_by_role("link", name="At the provider").click()
        page.get_by_label("Public URL of the webhook").fill(url)
        page.get_by_role("button", name="Register it at ark").click()
        expect(page.get_by_role("status")).to_contain_text(f"The provider posts to {url} from now on.")
        expect(page.locator("#provider")).to_contain_text("ours")
        page.get_by_role("button", name="Reconcile now").click()
        expect(page.get_by_role("status")).to_contain_text("The job asks the provider")
        visitor.go("/console/sources/bills")
        page.get_by_role("button", name="Ask now").click()
        expect(page.get_by_role("status")).to_contain_text("1, of which 1 lead to this source")
        page.get_by_role("button", name="Send a test").click()  # nobody listens at this address
        expect(page.get_by_role("status")).to_contain_text(f"The provider's test did not arrive. {url}")
        expect(page.locator("#provider dl")).to_contain_text("no")
        page.get_by_role("button", name="Remove there").click()
        expect(page.get_by_role("status")).to_contain_text(f"no longer posts to {url}")
        assert provider.account("bills", ArkAccount).webhooks.at(url) is None
    (removed, *_) = system.list_items("/v1/audit", object="source:bills")
    assert removed["action"] == "source.unenrolled"


def test_the_keyboard_moves_through_rows_and_shows_help(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/console/sources")
    page.keyboard.press("j")
    expect(page.locator("tr.at")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Newest events")).to_be_visible()
    page.wait_for_load_state()  # as in `sign_in`
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Keyboard")).to_be_hidden()
    page.keyboard.type("gm")
    expect(page.get_by_role("heading", name="Messages")).to_be_visible()


PAGES = (
    "/console/", "/console/messages", "/console/events", "/console/suppressions", "/console/sources",
    "/console/sources/new?provider=ark", "/console/sources/shop", "/console/receipts", "/console/refusals",
    "/console/subscriptions", "/console/subscriptions/new", "/console/deliveries", "/console/alerts", "/console/jobs",
    "/console/alerts/rules", "/console/alerts/new-rule", "/console/alerts/channels", "/console/users",
    "/console/suppression-files", "/console/keys", "/console/audit", "/console/status",
    "/console/suppressions/nadia@post.example",
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible_fit_a_phone_and_run_no_hostile_text(
    visitor: Visitor, system: System, scheme: Any
) -> None:
    page = visitor.page
    page.emulate_media(color_scheme=scheme)
    messages = [f"/console/messages/{one['id']}" for one in system.list_items("/v1/messages")]
    deliveries = [f"/console/deliveries/{one['id']}" for one in system.list_deliveries()]
    system.execute(  # an error with a URL, in which nothing can be broken
        "INSERT INTO reconciliations (source_id, next_at, last_error)"
        " SELECT id, now(), 'GET https://esp.example/?' || repeat('x', 300)"
        " FROM sources ON CONFLICT (source_id) DO UPDATE SET last_error = EXCLUDED.last_error"
    )
    shown = [f"/console/alerts/{one['id']}" for one in system.list_items("/v1/alerts")]
    for path in (*PAGES, messages[-1], deliveries[0], shown[0]):
        visitor.go(path)
        assert "owned" not in page.title(), path
        # In an isolated world, because the policy forbids the page to run it.
        session = page.context.new_cdp_session(page)
        world = session.send(
            "Page.createIsolatedWorld", {"frameId": session.send("Page.getFrameTree")["frameTree"]["frame"]["id"]}
        )
        context = world["executionContextId"]
        session.send("Runtime.evaluate", {"expression": AXE.read_text(), "contextId": context})
        ran = session.send(
            "Runtime.evaluate",
            {
                "expression": "axe.run().then(r => JSON.stringify(r.violations.map(v => [v.id, v.nodes[0].html])))",
                "contextId": context, "awaitPromise": True, "returnByValue": True,
            },
        )  # fmt: skip
        assert json.loads(ran["result"]["value"]) == [], path
        if scheme == "light":
            page.set_viewport_size({"width": 390, "height": 844})
            # Charts follow the new width a frame later.
            fits = partial(page.evaluate, "document.documentElement.scrollWidth <= 390")
            assert eventually(fits, timeout_seconds=PATIENCE_SECONDS), path
            page.set_viewport_size({"width": 1280, "height": 900})


def test_pages_can_be_read_without_javascript(browser: Browser, server: Served) -> None:
    context = open_context(browser, java_script_enabled=False)
    visitor = Visitor(context.new_page(), f"http://127.0.0.1:{server.port}")
    sign_in(visitor)
    page = visitor.page
    page.get_by_role("link", name="Messages").first.click()
    page.get_by_label("Status").select_option("bounced")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name="nadia@post.example").first.click()
    expect(page.locator("#verdict")).to_contain_text("bounced")
    context.close()


def test_many_problems_are_folded_and_the_figures_stay_near(visitor: Visitor, system: System) -> None:
    with system.engine.begin() as connection:
        for number in range(8):
            alerts.fire(connection, rule=f"rule-{number}", summary="Something is wrong.")
    page = visitor.page
    visitor.go("/console/")
    expect(page.locator("#needs > ul > li")).to_have_count(5)
    hidden = page.locator("#needs details li")
    expect(hidden.first).to_be_hidden()
    page.locator("#needs details").get_by_text(re.compile(r"^\d+ more$")).click()
    expect(hidden.first).to_be_visible()
    expect(page.locator("#needs-title")).to_contain_text(f"({5 + hidden.count()})")
