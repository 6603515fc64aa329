"""The simulated providers serve their public keys."""

import http.client
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from simulator.providers.ark.webhooks import Ark
from simulator.providers.base import Dialect
from simulator.providers.cloudmailin.webhooks import CloudMailin
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.providers.postal.webhooks import Postal
from simulator.server import ProviderServer


@pytest.fixture(scope="module")
def server() -> Iterator[ProviderServer]:
    dialects: dict[str, Dialect] = {
        "mc": MailChannels(),
        "ark": Ark(),
        "postal": Postal(),
        "cm": CloudMailin(),
    }
    with ProviderServer(dialects) as server:
        yield server


def get(url: str) -> tuple[int, dict[str, object]]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    try:
        connection.request("GET", f"{address.path}?{address.query}" if address.query else address.path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_a_mailchannels_key_is_served_by_its_id(server: ProviderServer) -> None:
    dialect = server.dialects["mc"]
    status, document = get(f"{server.keys_url('mc')}?id={dialect.key_id}")
    assert status == 200
    assert document == {"id": dialect.key_id, "key": dialect.credentials()["public_keys"][dialect.key_id]}


def test_an_unknown_key_is_404(server: ProviderServer) -> None:
    assert get(f"{server.keys_url('mc')}?id=nobody")[0] == 404


@pytest.mark.parametrize("slug", ["ark", "postal"])
def test_each_account_serves_its_own_jwks(server: ProviderServer, slug: str) -> None:
    status, document = get(server.keys_url(slug) or "")
    assert (status, document) == (200, server.dialects[slug].credentials()["jwks"])


def test_a_new_key_is_served_at_once(server: ProviderServer) -> None:
    new = server.dialects["ark"].rotate()
    assert new in json.dumps(get(server.keys_url("ark") or "")[1])


def test_the_providers_own_paths_work_without_a_slug(server: ProviderServer) -> None:
    dialect = server.dialects["mc"]
    assert get(f"{server.url}/tx/v1/webhook/public-key?id={dialect.key_id}")[0] == 200


def test_a_provider_whose_keys_are_secrets_serves_none(server: ProviderServer) -> None:
    assert server.keys_url("cm") is None
    assert get(f"{server.url}/cm/.well-known/jwks.json")[0] == 404


def test_requests_are_counted_by_path() -> None:
    with ProviderServer({"ark": Ark()}) as server:
        for _ in range(3):
            get(server.keys_url("ark") or "")
        assert server.requests == {"/ark/.well-known/jwks.json": 3}
