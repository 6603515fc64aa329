"""An event of every provider goes all the way: from the request to the state, the suppression and the subscriber."""

import random
from datetime import UTC, datetime, timedelta

from shared.sources import service as source_service
from shared.vocabulary import EventType
from simulator import replies
from simulator.mail import Happening, make_message
from simulator.providers.base import Dialect
from simulator.providers.registry import DIALECTS
from simulator.server import ProviderServer
from tests.support import http_sink, rows
from tests.support.cluster import Cluster, eventually
from tests.support.traffic import Provider

WITHOUT_SUPPRESSION = {"mailwebhook"}  # it posts received mail only


def test_an_event_of_every_provider_reaches_state_suppression_and_subscriber(cluster: Cluster) -> None:
    dialects = {f"whole-way-{name}": make() for name, make in DIALECTS.items()}
    with ProviderServer(dialects) as server, http_sink.http_sink() as sink:
        ids = {slug: cluster.add_source(slug, dialect) for slug, dialect in dialects.items()}
        with cluster.engine.begin() as connection:
            for slug in dialects:
                settings = server.settings(slug)
                source_service.change(connection, cluster.vault, slug, settings=settings)
            rows.insert_subscription(connection, cluster.vault, sink.url, sources=list(dialects))
        cluster.start("deliverer")

        for slug, dialect in dialects.items():
            happening = make_failure(slug, dialect)
            answer = Provider(dialect, cluster.urls(slug)).post(dialect.body([happening]))
            assert answer.status == 200, slug

        def missing() -> set[str]:
            """The sources whose event has not come all the way."""
            suppressed = {row[0] for row in cluster.rows("SELECT source_id FROM suppressions")}
            delivered = {request.json["data"]["source"] for request in sink.received}
            return {
                slug
                for slug, dialect in dialects.items()
                if not cluster.states(ids[slug])
                or slug not in delivered
                or (dialect.NAME not in WITHOUT_SUPPRESSION and ids[slug] not in suppressed)
            }

        eventually(lambda: not missing())
        assert missing() == set(), cluster.log_tails("worker", "deliverer")


def make_failure(slug: str, dialect: Dialect) -> Happening:
    """A failure, or what the provider has words for, of a message to a domain that no other provider gets."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    message = make_message(
        random.Random(slug),
        1,
        sender="billing@shop.example",
        recipients=(f"ann@{slug}.example",),
        subject="Invoice 1",
        submitted_at=at,
    )
    wanted = (EventType.BOUNCED, EventType.COMPLAINED, EventType.INBOUND)
    kind = next(kind for kind in wanted if kind in dialect.TRAITS.speaks)
    reply = replies.NO_SUCH_USER if kind is EventType.BOUNCED else None
    return Happening(kind=kind, at=at, message=message, recipients=message.recipients, reply=reply)
