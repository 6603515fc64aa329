"""Certificates and confirmations of Scaleway's notifications come from Scaleway only."""

import json

import pytest

from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings
from simulator.providers.scaleway import Scaleway
from tests.support.signed_requests import NOW, make_request

SCALEWAY = PROVIDERS["scaleway"]
BUCKET = "https://messaging.s3.fr-par.scw.cloud/fr-par/sns"


@pytest.mark.parametrize("url", [f"{BUCKET}/sns-trust-chain.pem", f"{BUCKET.replace('fr-par', 'nl-ams')}/a.pem"])
def test_a_certificate_is_fetched_from_the_bucket_of_its_region(url: str) -> None:
    found = SCALEWAY.key_lookup(url)
    assert found is not None
    assert found.url == url


@pytest.mark.parametrize(
    "url",
    [
        f"{BUCKET}/a.pem\n",
        f"{BUCKET}/../../other/a.pem",
        f"{BUCKET}/a.pem?x",
        BUCKET.replace("https", "http") + "/a.pem",
        "https://messaging.s3.fr-par.scw.cloud/nl-ams/sns/a.pem",
        "https://messaging.s3.fr-par.scw.cloud.evil.example/fr-par/sns/a.pem",
        "https://other.s3.fr-par.scw.cloud/fr-par/sns/a.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-a.pem",
    ],
)
def test_no_certificate_is_fetched_from_elsewhere(url: str) -> None:
    assert SCALEWAY.key_lookup(url) is None


def test_a_subscription_is_confirmed_at_the_api_of_the_topics_region() -> None:
    document = {**json.loads(Scaleway().confirmation(NOW)), "SubscribeURL": "https://evil.example/"}
    url = SCALEWAY.confirmation_url(make_request(json.dumps(document).encode(), {}), SourceSettings())
    assert url is not None
    assert url.startswith("https://sns.mnq.fr-par.scaleway.com/?Action=ConfirmSubscription&TopicArn=arn%3Ascw%3Asns")
