"""What a provider posts when all goes well, and having a receiver answer it as the test wants."""

from datetime import UTC, datetime

from simulator import post
from simulator.providers.api.account import Account
from simulator.providers.base import Dialect
from simulator.scenarios import SCENARIOS
from simulator.staging import Posting, stage
from tests.simulator.ends import Receiver


def some(dialect: Dialect, count: int) -> list[Posting]:
    play = stage(SCENARIOS["happy"], dialect, count=count, seed=1, now=datetime.now(UTC))
    return list(play.postings)[:count]


def send(account: Account, receiver: Receiver, *codes: int) -> list[Posting]:
    """One posting for each code that the receiver answers, in that order."""
    receiver.codes = list(codes)
    postings = some(account.dialect, len(codes))
    post.send(postings, account.dialect, receiver.endpoint, connections=1, log=account.log)
    return postings
