"""Trains the next dictionary of stored requests with what the simulator sends: `python -m cli.request_dictionary`.

Run it when providers' requests have changed so much that they compress badly, and raise `stored_requests.NEWEST` to
the number that it prints. Earlier dictionaries stay: rows that were compressed with them need them.
"""

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import zstandard

from shared.postgres import stored_requests
from shared.receipts.stored_form import redact_headers
from simulator import stories
from simulator.mail import make_message
from simulator.providers.base import Dialect, make_request
from simulator.providers.registry import DIALECTS
from simulator.story import fit, tellable

BYTES: Final = 32 * 1024

_OF_PROXIES: Final[Mapping[str, tuple[str, ...]]] = {
    "user-agent": ("Go-http-client/1.1", "Go-http-client/2.0", "Amazon Simple Notification Service Agent", "Postmark"),
    "x-forwarded-for": ("198.51.100.7", "203.0.113.201, 10.0.3.18"),
    "x-forwarded-proto": ("https",),
    "x-forwarded-host": ("hooks.shop.example",),
    "x-forwarded-port": ("443",),
    "x-real-ip": ("198.51.100.7",),
    "x-request-id": ("5d1c2f7e84a94be0bb6ac0ffee123457",),
    "x-amzn-trace-id": ("Root=1-67891233-abcdef012345678912345678",),
    "traceparent": ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",),
    "cf-connecting-ip": ("198.51.100.7",),
    "cf-ipcountry": ("US",),
    "cf-ray": ("8f2b1c9d7e6a5b4c-FRA",),
    "cf-visitor": ('{"scheme":"https"}',),
    "cdn-loop": ("cloudflare; loops=1",),
    "via": ("1.1 Caddy",),
}
"""Headers that providers or proxies add, by what is typical of them. The simulator sends none of these."""


def main() -> None:
    """Train the next dictionary, write it, and print its number."""
    rng = random.Random(1)  # noqa: S311 - the same samples each time
    samples: list[Any] = [sample for dialect in DIALECTS.values() for sample in make_samples(dialect(), rng)]
    rng.shuffle(samples)
    numbers = (int(path.stem.rpartition("-")[2]) for path in stored_requests.DICTIONARIES.glob("requests-*.zdict"))
    number = max(numbers, default=0) + 1
    # With threads, it also tries out the parameters of the training.
    trained = zstandard.train_dictionary(BYTES, samples, dict_id=number, level=3, threads=1)
    (stored_requests.DICTIONARIES / f"requests-{number}.zdict").write_bytes(trained.as_bytes())
    print(f"dictionary {number}, from {len(samples)} requests")


def make_samples(dialect: Dialect, rng: random.Random, count: int = 200) -> Iterator[bytes]:
    """Yield about this number of requests of a provider with one event each, as they are stored."""
    tellers = [teller for teller in stories.TELLERS if tellable(teller, dialect.TRAITS)]
    made = 0
    while made < count:
        now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(10 * 365 * 86400))
        (teller,) = rng.choices(tellers, [stories.TELLERS[teller] for teller in tellers])
        message = make_message(
            rng,
            made,
            sender=f"{rng.choice(('billing', 'hello', 'news', 'no-reply'))}@shop{rng.randrange(1000)}.example",
            recipients=tuple(
                f"{rng.choice(('ann', 'bob', 'info', 'customer'))}.{rng.randrange(10**6)}"
                f"@{rng.choice(('gmail.com', 'outlook.com', 'yahoo.com', 'icloud.com', 'post.example'))}"
                for _ in range(stories.RECIPIENTS.get(teller, 1))
            ),
            subject=f"{rng.choice(('Invoice', 'Your order', 'Reset your password'))} {rng.randrange(10**6)}",
            submitted_at=now,
        )
        for happening in fit(teller(message, rng), dialect.TRAITS).happenings:
            try:
                body = dialect.body([happening])
            except ValueError:  # this provider has no such event
                continue
            request = make_request(dialect, body, happening.at)
            headers = {name.lower(): value for name, value in request.headers.items()}
            headers |= {name: rng.choice(values) for name, values in _OF_PROXIES.items() if rng.random() < 0.2}
            yield stored_requests.join(msgspec.json.encode(redact_headers(headers)).decode(), request.body)
            made += 1


if __name__ == "__main__":
    main()
