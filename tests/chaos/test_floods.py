"""A flood of refused webhooks costs a bounded number of rows, and genuine webhooks are stored meanwhile."""

import http.client
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from tests.support import traffic
from tests.support.cluster import SimulatedSource

CONNECTIONS = 8
"""To each receiver."""
FORGED = 200
"""Webhooks on each connection."""
PADDING = 4000
"""Bytes of a header of each."""


def post_forged(url: str) -> set[int]:
    """Post webhooks without a signature on one connection; the status codes of the answers."""
    parts = urlsplit(url)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    statuses = set()
    for number in range(FORGED):
        connection.request("POST", parts.path, body=b"[%d]" % number, headers={"X-Padding": "x" * PADDING})
        response = connection.getresponse()
        response.read()
        statuses.add(response.status)
    connection.close()
    return statuses


def test_a_flood_of_refused_webhooks_is_counted_and_hinders_no_genuine_one(source: SimulatedSource) -> None:
    cluster = source.cluster
    urls = cluster.urls(source.slug) * CONNECTIONS
    happenings = traffic.happenings(100, seed=21)
    with ThreadPoolExecutor(len(urls)) as pool:
        floods = [pool.submit(post_forged, url) for url in urls]
        done = source.provider.send(source.bodies(happenings))
        assert [flood.result() for flood in floods] == [{401}] * len(urls)
    source.assert_every_acknowledged_event_stored_once(happenings, done)

    def refused() -> int:
        [(count,)] = cluster.rows("SELECT sum(count) FROM refusals WHERE source = %(slug)s", slug=source.slug)
        return int(count or 0)

    cluster.wait_for(lambda: refused() == FORGED * len(urls), "receiver")
    [(rows, size)] = cluster.rows(
        "SELECT count(*), sum(length(headers::text)) FROM refusals WHERE source = %(slug)s", slug=source.slug
    )
    assert rows < FORGED * len(urls) / 10
    assert size < rows * PADDING
