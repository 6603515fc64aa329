"""What a person does next about a message, from its provider's word, its status, or the cause of its failure."""

import shlex
from collections.abc import Mapping

from shared.classification.provider_codes import PROVIDER_WORDS
from shared.diagnosis.provider_advice import ASK_RECIPIENT, LIFT, LOOK_AGAIN, RECORD, ROWS, Advice
from shared.vocabulary import Classification, Status

BY_STATUS: Mapping[Status, Advice] = {
    Status.SUBMITTED: Advice("The application announced the send.", "Look again in an hour:", LOOK_AGAIN),
    Status.QUEUED: Advice("The provider has taken the message.", "Look again in an hour:", LOOK_AGAIN),
    Status.SENT: Advice("The provider has sent the message on.", "Look again in an hour:", LOOK_AGAIN),
    Status.HELD: Advice(
        "The provider keeps the message until a person releases it.",
        "Open the page of {their_message} at the provider of {source}, and release or cancel it there.",
    ),
    Status.DEFERRED: Advice(
        "The provider tries again by itself.",
        "Do not send the message to {recipient} again: it would arrive twice. Look again tomorrow:",
        LOOK_AGAIN,
    ),
    Status.DELIVERED: Advice("The mail system of {domain} took the message.", ASK_RECIPIENT, RECORD),
    Status.REJECTED: Advice(
        "The provider did not try.",
        "Read the provider's reason: it concerns the request or the account of {source}, or its suppression list:",
        ("tidings suppressions why {recipient}",),
    ),
    Status.FAILED: Advice(
        "The provider gave up.", "Find out from the events before why, then send again:", ("tidings trace {message}",)
    ),
    Status.BOUNCED: Advice(
        "The provider does not try again.", "If {recipient} is known to work, lift the entry here:", LIFT
    ),
}
"""The advice for a word that has no row in the provider's table."""

BY_CLASSIFICATION: Mapping[Classification, str] = {
    Classification.INVALID_RECIPIENT: "There is no mailbox of {recipient}: ask for the correct address.",
    Classification.INACTIVE_MAILBOX: "The mailbox of {recipient} is closed or disabled: reach the person another way.",
    Classification.MAILBOX_FULL: "The mailbox of {recipient} is full: send again when the recipient has freed space.",
    Classification.INVALID_DOMAIN: "{domain} accepts no mail: check the part after the @ for a mistake.",
    Classification.DNS_FAILURE: "{domain} could not be looked up: check its MX and A records, then send again.",
    Classification.ROUTING_ERROR: "The mail servers of {domain} do not route mail for {recipient}: ask its "
    "administrator to correct the MX record or the relay.",
    Classification.SPAM_BLOCK: "The sender is blocked, not {recipient}: look up the sending IP address and "
    "{sender_domain} on the block list that the reason names.",
    Classification.SPAM_CONTENT: "The content was taken for spam: change it, and check its links and attachments.",
    Classification.POLICY_REJECTION: "A policy of {domain} refused the message: correct what the reason names, such "
    "as SPF, DKIM or DMARC of {sender_domain}, or the size.",
    Classification.CONNECTION_ERROR: "No mail server of {domain} could be reached: ask its administrator, then send "
    "again.",
    Classification.PROTOCOL_ERROR: "The two mail servers did not understand each other: give the reason to the "
    "provider's support.",
    Classification.TRANSIENT_FAILURE: "The mail system of {domain} was out of order for longer than the "
    "provider retries: send again.",
    Classification.UNCLASSIFIED: "The reply of {domain} fits no known cause: read the reason, and ask the "
    "administrator of {domain} about it.",
}
"""The next step after a final failure, by its cause."""


NAMES: Mapping[str, str] = {
    "mailchannels": "MailChannels",
    "ark": "Ark",
    "postal": "Postal",
    "cloudmailin": "CloudMailin",
    "mailwebhook": "MailWebhook",
    "ses": "Amazon SES",
    "sendgrid": "SendGrid",
    "postmark": "Postmark",
    "resend": "Resend",
    "standardwebhooks": "The sender",
    "mailgun": "Mailgun",
    "brevo": "Brevo",
    "mailjet": "Mailjet",
    "sparkpost": "SparkPost",
    "mailersend": "MailerSend",
    "mandrill": "Mandrill",
    "mailtrap": "Mailtrap",
    "unisender": "Unisender Go",
    "lettermint": "Lettermint",
    "emailit": "Emailit",
    "ahasend": "AhaSend",
    "mailpace": "MailPace",
    "smtp2go": "SMTP2GO",
    "azure": "Azure Communication Services",
    "elasticemail": "Elastic Email",
    "cloudflare": "Cloudflare Email Service",
    "kumomta": "KumoMTA",
    "scaleway": "Scaleway",
}
"""How the providers write their names. Others are shown by their name in a source."""


_NAMED_WITH_PROVIDER = {word.partition(":")[0] for word in PROVIDER_WORDS if ":" in word}
"""The providers whose words have another meaning at other providers."""


def find_advice(provider: str, word: str, status: Status | None) -> Advice | None:
    """Return the advice for a provider's word, or else for the status; None without either."""
    rows = ROWS.get(provider, {})
    keys = (f"{word.lower()}/{status}", word, word.lower())
    row = next((rows[key] for key in keys if key in rows), None)
    return row or (BY_STATUS[status] if status else None)


def advise(word: str | None, classification: Classification) -> str:
    """Return the next step after a failure of an unknown message, by the provider's word or else by its cause.

    The word is written as in the table of classifications: some have their provider, as in `brevo:hard_bounce`.
    """
    provider, colon, own = (word or "").partition(":")
    named = {provider: own} if colon else {name: word for name in ROWS if name not in _NAMED_WITH_PROVIDER}
    rows = (row for name, sought in named.items() for key, row in ROWS.get(name, {}).items() if key.lower() == sought)
    row = next(rows, None)
    step = fill(row.step if row else BY_CLASSIFICATION[classification], {})
    return step if step.endswith(".") else f"{step.removesuffix(':')}."


def fill(text: str, names: Mapping[str, str | None], *, quoted: bool = False) -> str:
    """Return a text with its names filled in, `quoted` for a shell. An unknown name becomes words, `the recipient`."""
    words = {
        "recipient": "the recipient", "domain": "the recipient's domain", "sender_domain": "the sender's domain",
        "source": "the source", "api_source": "the source", "message": "", "id": "",
        "their_message": "the message",
    }  # fmt: skip
    # `message` is a list of options, which are quoted already.
    known = {
        name: (shlex.quote(value) if quoted and name != "message" else value) for name, value in names.items() if value
    }
    filled = text.format(**{**words, **known})
    return filled if "recipient" in known or quoted else filled[:1].upper() + filled[1:]


def fill_commands(commands: tuple[str, ...], names: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return the commands with their names filled in, without those that have an unknown name."""
    unknown = [f"{{{name}}}" for name, value in names.items() if not value]
    return tuple(
        fill(command, names, quoted=True) for command in commands if not any(name in command for name in unknown)
    )
