"""Replies of simulated mail servers (RFC 5321, RFC 3463), and user agents of readers."""

import random
from dataclasses import dataclass

from shared.vocabulary import Classification
from simulator.mail import Reply


def _reply(code: str, enhanced: str, text: str, classification: Classification) -> Reply:
    return Reply(smtp_status=code, enhanced_code=enhanced, text=text, classification=classification)


NO_SUCH_USER = _reply("550", "5.1.1", "The email account does not exist", Classification.INVALID_RECIPIENT)
INACTIVE = _reply("550", "5.2.1", "The mailbox is disabled", Classification.INACTIVE_MAILBOX)
NO_SUCH_DOMAIN = _reply("550", "5.1.2", "Domain not found", Classification.INVALID_DOMAIN)
BY_POLICY = _reply("554", "5.7.1", "Message refused by policy", Classification.POLICY_REJECTION)
MAILBOX_FULL = _reply("452", "4.2.2", "Mailbox full", Classification.MAILBOX_FULL)
MAILBOX_STILL_FULL = _reply("552", "5.2.2", "Mailbox full", Classification.MAILBOX_FULL)
GREYLISTED = _reply("451", "4.7.1", "Greylisted, try again later", Classification.TRANSIENT_FAILURE)
BUSY = _reply("421", "4.3.2", "Service not available, try later", Classification.TRANSIENT_FAILURE)
SUPPRESSED = _reply("550", "5.7.1", "recipient is suppressed", Classification.POLICY_REJECTION)

PERMANENT = (NO_SUCH_USER, INACTIVE, NO_SUCH_DOMAIN, BY_POLICY)
TEMPORARY = (MAILBOX_FULL, GREYLISTED, BUSY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Return a reader of a message: an address from a documentation range (RFC 5737), and a mail program."""

    ip: str
    user_agent: str


_USER_AGENTS = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Mail/16.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Thunderbird/128.5.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
)


def reader(rng: random.Random) -> Reader:
    """Return somebody with a mail program."""
    return Reader(ip=f"203.0.113.{rng.randint(1, 254)}", user_agent=rng.choice(_USER_AGENTS))
