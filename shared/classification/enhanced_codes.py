"""The classification that each enhanced status code stands for.

Sources: the registry "SMTP Enhanced Status Codes" with RFC 3463, 4954, 5248, 6531, 6710, 7293, 7372, 7505, 8617
and 8689; the large hosters' documentation of their own codes.
"""

from collections.abc import Mapping
from typing import NamedTuple

from shared.classification.provider_codes import Meaning
from shared.vocabulary import Classification

C = Classification


class Registered(NamedTuple):
    """A code of the registry: its description, and its classification as 4.x (temporary) and as 5.x (permanent).

    Reasons are separated by semicolons; one that begins with "as 4" or "as 5" is of that class only.

    For a `vague` code the text takes precedence: servers use the code for several reasons. `beside_text` is its
    permanent classification beside a text that matches no pattern.
    """

    description: str
    temporary: Classification
    permanent: Classification
    why: str = ""
    vague: bool = False
    beside_text: Classification | None = None


class CodeRange(NamedTuple):
    """Codes of a hoster: from `first` to the detail `last`, both included."""

    first: str
    last: int
    classification: Classification
    why: str


REGISTERED: Mapping[str, Registered] = {
    "0.0": Registered("other or undefined", C.TRANSIENT_FAILURE, C.UNCLASSIFIED, "says nothing", vague=True),
    # Addresses
    "1.0": Registered(
        "other address status",
        C.TRANSIENT_FAILURE,
        C.INVALID_RECIPIENT,
        "sender addresses have 1.7 and 1.8, but the text may still mean the sender",
        vague=True,
    ),
    "1.1": Registered(
        "bad destination mailbox",
        C.TRANSIENT_FAILURE,
        C.INVALID_RECIPIENT,
        "as 4: the server could not look up the recipient yet",
    ),
    "1.2": Registered(
        "bad destination system", C.DNS_FAILURE, C.INVALID_DOMAIN, "as 4: the domain did not resolve just now"
    ),
    "1.3": Registered("bad destination syntax", C.TRANSIENT_FAILURE, C.INVALID_RECIPIENT),
    "1.4": Registered("ambiguous destination", C.TRANSIENT_FAILURE, C.INVALID_RECIPIENT),
    "1.5": Registered("destination valid", C.TRANSIENT_FAILURE, C.UNCLASSIFIED, "not a failure", vague=True),
    "1.6": Registered("mailbox moved, no forwarding", C.TRANSIENT_FAILURE, C.INACTIVE_MAILBOX),
    "1.7": Registered("bad sender's syntax", C.POLICY_REJECTION, C.POLICY_REJECTION, "about the sender's address"),
    "1.8": Registered("bad sender's system", C.POLICY_REJECTION, C.POLICY_REJECTION, "about the sender's address"),
    "1.9": Registered("relayed to non-compliant mailer", C.TRANSIENT_FAILURE, C.PROTOCOL_ERROR),
    "1.10": Registered(
        "recipient has null MX",
        C.DNS_FAILURE,
        C.INVALID_DOMAIN,
        "RFC 7505; Microsoft writes it for an unknown recipient, and then its text says so",
        vague=True,
    ),
    # Mailboxes
    "2.0": Registered(
        "other mailbox status",
        C.TRANSIENT_FAILURE,
        C.UNCLASSIFIED,
        "servers write it for anything; “inactive” would suppress the address",
        vague=True,
    ),
    "2.1": Registered(
        "mailbox disabled",
        C.TRANSIENT_FAILURE,
        C.INACTIVE_MAILBOX,
        "Gmail writes it too, even as 5, for a mailbox that receives too much at once",
        vague=True,
    ),
    "2.2": Registered(
        "mailbox full", C.MAILBOX_FULL, C.MAILBOX_FULL, "as 5 too: the server gave up, but the recipient may free space"
    ),
    "2.3": Registered("message too long for the mailbox", C.POLICY_REJECTION, C.POLICY_REJECTION, "about the message"),
    "2.4": Registered("mailing list expansion problem", C.ROUTING_ERROR, C.ROUTING_ERROR),
    # Mail systems
    "3.0": Registered(
        "other mail system status",
        C.TRANSIENT_FAILURE,
        C.UNCLASSIFIED,
        "used when a mail system has no better code",
        vague=True,
    ),
    "3.1": Registered(
        "mail system full", C.TRANSIENT_FAILURE, C.TRANSIENT_FAILURE, "the server's storage, not the mailbox"
    ),
    "3.2": Registered(
        "system not accepting messages",
        C.TRANSIENT_FAILURE,
        C.TRANSIENT_FAILURE,
        "defined for 4 but also used with 5: a server that shuts down",
    ),
    "3.3": Registered("system not capable of features", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "3.4": Registered("message too big for the system", C.POLICY_REJECTION, C.POLICY_REJECTION, "about the message"),
    "3.5": Registered("system incorrectly configured", C.ROUTING_ERROR, C.ROUTING_ERROR),
    "3.6": Registered("priority changed", C.TRANSIENT_FAILURE, C.UNCLASSIFIED, "not a failure", vague=True),
    # Network and routing
    "4.0": Registered("other network or routing status", C.CONNECTION_ERROR, C.ROUTING_ERROR, vague=True),
    "4.1": Registered(
        "no answer from host",
        C.CONNECTION_ERROR,
        C.ROUTING_ERROR,
        "Microsoft writes 5.4.1 for a domain that it does not host, and for a recipient that does not exist; "
        "in the latter case its text says so",
        vague=True,
    ),
    "4.2": Registered("bad connection", C.CONNECTION_ERROR, C.CONNECTION_ERROR),
    "4.3": Registered("directory server failure", C.DNS_FAILURE, C.DNS_FAILURE),
    "4.4": Registered(
        "unable to route",
        C.DNS_FAILURE,
        C.INVALID_DOMAIN,
        "as 5: the domain has neither MX nor A (the example of RFC 3463), unless the text names a temporary fault",
        vague=True,
    ),
    "4.5": Registered("mail system congestion", C.TRANSIENT_FAILURE, C.TRANSIENT_FAILURE),
    "4.6": Registered("routing loop", C.ROUTING_ERROR, C.ROUTING_ERROR),
    "4.7": Registered(
        "delivery time expired", C.TRANSIENT_FAILURE, C.TRANSIENT_FAILURE, "the recipient was never refused"
    ),
    # The dialogue
    "5.0": Registered(
        "other protocol status",
        C.PROTOCOL_ERROR,
        C.PROTOCOL_ERROR,
        "Microsoft writes it for an unknown recipient too, and others for any refusal of the sender",
        vague=True,
        beside_text=C.POLICY_REJECTION,
    ),
    "5.1": Registered("invalid command", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "5.2": Registered("syntax error", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "5.3": Registered(
        "too many recipients",
        C.TRANSIENT_FAILURE,
        C.POLICY_REJECTION,
        "as 4: the next transaction takes the rest; as 5: a limit that the sender overstepped",
    ),
    "5.4": Registered("invalid arguments", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "5.5": Registered("wrong protocol version", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "5.6": Registered("authentication line too long", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    # Content: media and conversion, not spam
    "6.0": Registered(
        "other media error",
        C.PROTOCOL_ERROR,
        C.PROTOCOL_ERROR,
        "some servers write it for unwanted content",
        vague=True,
        beside_text=C.POLICY_REJECTION,
    ),
    "6.1": Registered("media not supported", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "6.2": Registered("conversion required, prohibited", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "6.3": Registered("conversion required, not supported", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "6.4": Registered("conversion with loss", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "6.5": Registered("conversion failed", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "6.6": Registered("message content not available", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "6.7": Registered("non-ASCII addresses not permitted", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "6.8": Registered("UTF-8 reply required", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "6.9": Registered("UTF-8 header not transferable", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    "6.10": Registered("deprecated, as 6.8", C.PROTOCOL_ERROR, C.PROTOCOL_ERROR),
    # Security and policy: the sender's affair, with few exceptions
    "7.0": Registered(
        "other security status",
        C.POLICY_REJECTION,
        C.POLICY_REJECTION,
        "hosters also write it when they rate-limit a sender",
        vague=True,
    ),
    "7.1": Registered(
        "delivery not authorized",
        C.TRANSIENT_FAILURE,
        C.POLICY_REJECTION,
        "as 4: nearly always greylisting; as 5: spam, block lists or policies, which only the text distinguishes",
        vague=True,
    ),
    "7.2": Registered("list expansion prohibited", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.3": Registered("security conversion not possible", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.4": Registered("security features not supported", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.5": Registered("cryptographic failure", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.6": Registered("algorithm not supported", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.7": Registered("message integrity failure", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.8": Registered("credentials invalid", C.POLICY_REJECTION, C.POLICY_REJECTION, "the sending account's"),
    "7.9": Registered("mechanism too weak", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.10": Registered("encryption needed", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.11": Registered("encryption needed for mechanism", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.12": Registered("password transition needed", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.13": Registered(
        "user account disabled",
        C.POLICY_REJECTION,
        C.POLICY_REJECTION,
        "the account of the authenticated sender (RFC 5248), unless the text means the recipient's",
        vague=True,
    ),
    "7.14": Registered("trust relationship required", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.15": Registered("priority too low", C.TRANSIENT_FAILURE, C.POLICY_REJECTION),
    "7.16": Registered("message too big for its priority", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.17": Registered(
        "mailbox owner has changed",
        C.TRANSIENT_FAILURE,
        C.INACTIVE_MAILBOX,
        "RFC 7293: the mailbox has changed hands",
    ),
    "7.18": Registered(
        "domain owner has changed", C.TRANSIENT_FAILURE, C.INVALID_DOMAIN, "RFC 7293: nor is the domain theirs"
    ),
    "7.19": Registered(
        "owner's test cannot be completed", C.TRANSIENT_FAILURE, C.POLICY_REJECTION, "nothing is said of the address"
    ),
    "7.20": Registered("no passing DKIM signature", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.21": Registered("no acceptable DKIM signature", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.22": Registered("no author-matched DKIM signature", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.23": Registered("SPF validation failed", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.24": Registered("SPF validation error", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.25": Registered("reverse DNS validation failed", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.26": Registered(
        "multiple authentication checks failed",
        C.POLICY_REJECTION,
        C.POLICY_REJECTION,
        "DMARC, mostly: fix a record, do not reword the message",
    ),
    "7.27": Registered("sender has null MX", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.28": Registered("mail flood detected", C.SPAM_BLOCK, C.SPAM_BLOCK),
    "7.29": Registered("ARC validation failure", C.POLICY_REJECTION, C.POLICY_REJECTION),
    "7.30": Registered("REQUIRETLS support required", C.POLICY_REJECTION, C.POLICY_REJECTION),
}
"""All codes of the registry, by subject and detail."""

HOSTER_CODES: tuple[CodeRange, ...] = (
    CodeRange(
        "5.1.20",
        20,
        C.POLICY_REJECTION,
        "Microsoft: several authors, no sender; 5.1 wrongly means the recipient",
    ),
    CodeRange("5.1.90", 90, C.POLICY_REJECTION, "Microsoft: the sender's daily limit; 5.1 wrongly means the recipient"),
    CodeRange("4.2.121", 122, C.TRANSIENT_FAILURE, "Microsoft: the recipient gets too much in an hour"),
    CodeRange("5.2.121", 122, C.TRANSIENT_FAILURE, "Microsoft: the recipient gets too much in an hour"),
    CodeRange("5.4.300", 300, C.TRANSIENT_FAILURE, "Microsoft: expired in the queue"),
    CodeRange("4.4.312", 312, C.DNS_FAILURE, "Microsoft: the query failed"),
    CodeRange("5.4.312", 312, C.DNS_FAILURE, "Microsoft: the query failed until it gave up"),
    CodeRange("5.4.310", 310, C.INVALID_DOMAIN, "Microsoft: the domain does not exist"),
    CodeRange("5.4.316", 316, C.CONNECTION_ERROR, "Microsoft: refused until it gave up"),
    CodeRange("5.7.350", 350, C.SPAM_CONTENT, "Microsoft: the other server called it spam"),
    CodeRange("4.7.500", 699, C.SPAM_BLOCK, "Microsoft: suspicious traffic from the address, slowed down"),
    CodeRange("4.7.850", 899, C.SPAM_BLOCK, "Microsoft: suspicious traffic from the address, slowed down"),
    CodeRange("5.7.501", 503, C.SPAM_BLOCK, "Microsoft: the sending account is banned"),
    CodeRange(
        "5.7.504", 504, C.INVALID_RECIPIENT, "Microsoft: the recipient is not valid; 5.7 wrongly means the sender"
    ),
    CodeRange("5.7.508", 508, C.SPAM_BLOCK, "Microsoft: too much from these addresses"),
    CodeRange("5.7.511", 511, C.SPAM_BLOCK, "Microsoft: the sending address is banned"),
    CodeRange("5.7.606", 649, C.SPAM_BLOCK, "Microsoft: the sending address is banned"),
    CodeRange("5.7.705", 708, C.SPAM_BLOCK, "Microsoft: the sending tenant is banned"),
    CodeRange("5.7.750", 750, C.SPAM_BLOCK, "Microsoft: too much from unregistered domains"),
    CodeRange("5.7.800", 800, C.SPAM_BLOCK, "Microsoft: the sending domain is banned"),
)

SUBJECTS: Mapping[str, Meaning] = {
    "4.0": Meaning(C.TRANSIENT_FAILURE),
    "4.1": Meaning(C.TRANSIENT_FAILURE),
    "5.1": Meaning(C.INVALID_RECIPIENT),
    "4.2": Meaning(C.TRANSIENT_FAILURE),
    "4.3": Meaning(C.TRANSIENT_FAILURE),
    "4.4": Meaning(C.CONNECTION_ERROR),
    "5.4": Meaning(C.ROUTING_ERROR),
    "4.5": Meaning(C.PROTOCOL_ERROR),
    "5.5": Meaning(C.PROTOCOL_ERROR),
    "4.6": Meaning(C.PROTOCOL_ERROR),
    "5.6": Meaning(C.PROTOCOL_ERROR),
    "4.7": Meaning(C.POLICY_REJECTION),
    "5.7": Meaning(C.POLICY_REJECTION),
}
"""Class and subject of codes without a row. 5.0, 5.2 and 5.3 are too general and have none."""


def _expand() -> dict[str, Meaning]:
    found: dict[str, Meaning] = {}
    for detail, row in REGISTERED.items():
        reasons = row.why.split("; ")
        temporary = "; ".join(reason for reason in reasons if not reason.startswith("as 5"))
        permanent = "; ".join(reason for reason in reasons if not reason.startswith("as 4"))
        found[f"4.{detail}"] = Meaning(row.temporary, temporary, row.vague)
        found[f"5.{detail}"] = Meaning(row.permanent, permanent, row.vague, row.beside_text)
    for span in HOSTER_CODES:
        subject, _, first = span.first.rpartition(".")
        found |= {f"{subject}.{n}": Meaning(span.classification, span.why) for n in range(int(first), span.last + 1)}
    return found


ENHANCED_CODES: Mapping[str, Meaning] = _expand()
"""All codes with a row, as servers write them."""
