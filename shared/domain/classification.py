"""Why a delivery failed: one table from every provider's words and every SMTP code to our classifications.

Sources: RFC 5321 4.2 and RFC 7504 (reply codes), RFC 3463 and the registry of RFC 5248 with RFC 7505, 7293
and 7372 (enhanced codes), Ark's list of classifications. A row that somebody might judge otherwise says why
it is as it is. What follows from a wrong one is an address that is suppressed although it works, so that the
doubtful ones lean away from the recipient.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from shared.domain.vocabulary import Classification, ClassificationCode


class Codes(NamedTuple):
    """What a server answered: `smtp_status` is three digits, `enhanced_code` x.y.z; None if it gave none."""

    smtp_status: str | None
    enhanced_code: str | None


_NO_CODE = ClassificationCode.UNCLASSIFIED.value

WORDS: Mapping[str, Classification] = {
    **{item.value: item for item in Classification if item is not Classification.UNCLASSIFIED},
    **{str(item.value): Classification[item.name] for item in ClassificationCode if item.value != _NO_CODE},
    # The other list that Ark's deliveries API uses for the same things.
    "no_mailbox": Classification.INVALID_RECIPIENT,
    "not_accepting_mail": Classification.INACTIVE_MAILBOX,
    "message_too_large": Classification.POLICY_REJECTION,
    "policy_violation": Classification.POLICY_REJECTION,
    "tls_required": Classification.POLICY_REJECTION,
    "dns_error": Classification.DNS_FAILURE,
    "temporarily_unavailable": Classification.TRANSIENT_FAILURE,
    # CloudMailin's kinds that are a reason in themselves.
    "spamd": Classification.SPAM_CONTENT,
    "blocked": Classification.SPAM_BLOCK,
    "retries_exhausted": Classification.TRANSIENT_FAILURE,  # it gave up, the address itself was never refused
}

ENHANCED: Mapping[str, Classification] = {
    # Addresses
    "4.1.1": Classification.TRANSIENT_FAILURE,  # the server could not look the recipient up yet
    "5.1.1": Classification.INVALID_RECIPIENT,
    "4.1.2": Classification.DNS_FAILURE,  # the domain did not resolve just now
    "5.1.2": Classification.INVALID_DOMAIN,
    "5.1.3": Classification.INVALID_RECIPIENT,
    "5.1.4": Classification.INVALID_RECIPIENT,
    "5.1.6": Classification.INACTIVE_MAILBOX,  # moved, and left no address
    "4.1.7": Classification.POLICY_REJECTION,  # 1.7 and 1.8 are about the sender's address
    "5.1.7": Classification.POLICY_REJECTION,
    "4.1.8": Classification.POLICY_REJECTION,
    "5.1.8": Classification.POLICY_REJECTION,
    "5.1.9": Classification.PROTOCOL_ERROR,
    "5.1.10": Classification.INVALID_DOMAIN,  # null MX (RFC 7505)
    # Mailboxes
    "4.2.1": Classification.TRANSIENT_FAILURE,  # a mailbox that receives too much at once, at large hosters
    "5.2.1": Classification.INACTIVE_MAILBOX,
    "4.2.2": Classification.MAILBOX_FULL,
    "5.2.2": Classification.MAILBOX_FULL,
    "4.2.3": Classification.POLICY_REJECTION,  # longer than this mailbox allows: about the message
    "5.2.3": Classification.POLICY_REJECTION,
    "4.2.4": Classification.ROUTING_ERROR,
    "5.2.4": Classification.ROUTING_ERROR,
    # Mail systems
    "5.3.2": Classification.TRANSIENT_FAILURE,  # not accepting messages: written for 4, but used with 5 too
    "4.3.3": Classification.PROTOCOL_ERROR,
    "5.3.3": Classification.PROTOCOL_ERROR,
    "4.3.4": Classification.POLICY_REJECTION,  # longer than the system allows
    "5.3.4": Classification.POLICY_REJECTION,
    "4.3.5": Classification.ROUTING_ERROR,
    "5.3.5": Classification.ROUTING_ERROR,
    # Network and routing
    "4.4.3": Classification.DNS_FAILURE,
    "5.4.3": Classification.DNS_FAILURE,
    "4.4.4": Classification.DNS_FAILURE,  # no route now: a name server that does not answer, mostly
    "5.4.4": Classification.INVALID_DOMAIN,  # no route at all: the domain has neither MX nor A
    "5.4.1": Classification.ROUTING_ERROR,  # "access denied" at a large hoster, "no answer" in the RFC
    "4.4.5": Classification.TRANSIENT_FAILURE,
    "5.4.5": Classification.TRANSIENT_FAILURE,
    "4.4.6": Classification.ROUTING_ERROR,
    "5.4.6": Classification.ROUTING_ERROR,
    "4.4.7": Classification.TRANSIENT_FAILURE,
    "5.4.7": Classification.TRANSIENT_FAILURE,  # expired in the queue: the recipient was never refused
    # Security and policy
    "4.7.1": Classification.TRANSIENT_FAILURE,  # greylisting, nearly always
    "5.7.17": Classification.INACTIVE_MAILBOX,  # the mailbox has another owner since (RFC 7293)
    "5.7.18": Classification.INVALID_DOMAIN,  # so has the domain
    "4.7.28": Classification.SPAM_BLOCK,  # mail flood
    "5.7.28": Classification.SPAM_BLOCK,
    "5.7.350": Classification.SPAM_CONTENT,
    "5.7.511": Classification.SPAM_BLOCK,  # banned sender and banned addresses at a large hoster
    "5.7.606": Classification.SPAM_BLOCK,
    "5.7.708": Classification.SPAM_BLOCK,
}

SUBJECTS: Mapping[str, Classification] = {
    # Class and subject of the codes that have no row above.
    "4.0": Classification.TRANSIENT_FAILURE,
    "4.1": Classification.TRANSIENT_FAILURE,
    "5.1": Classification.INVALID_RECIPIENT,
    "4.2": Classification.TRANSIENT_FAILURE,
    # 5.2 has no row: servers write 5.2.0 for anything, and "inactive" would suppress the address.
    "4.3": Classification.TRANSIENT_FAILURE,
    # 5.3 has no row: 5.3.0 is what a mail system writes when it knows nothing better.
    "4.4": Classification.CONNECTION_ERROR,
    "5.4": Classification.ROUTING_ERROR,
    "4.5": Classification.PROTOCOL_ERROR,
    "5.5": Classification.PROTOCOL_ERROR,
    "4.6": Classification.PROTOCOL_ERROR,  # media and conversion, not spam
    "5.6": Classification.PROTOCOL_ERROR,
    "4.7": Classification.POLICY_REJECTION,
    "5.7": Classification.POLICY_REJECTION,
}

REPLIES: Mapping[str, Classification] = {
    "421": Classification.TRANSIENT_FAILURE,
    "450": Classification.TRANSIENT_FAILURE,
    "451": Classification.TRANSIENT_FAILURE,
    "452": Classification.TRANSIENT_FAILURE,  # the server's storage; a full mailbox says 4.2.2 with it
    "454": Classification.PROTOCOL_ERROR,  # no TLS just now
    "455": Classification.PROTOCOL_ERROR,
    "500": Classification.PROTOCOL_ERROR,
    "501": Classification.PROTOCOL_ERROR,
    "502": Classification.PROTOCOL_ERROR,
    "503": Classification.PROTOCOL_ERROR,
    "504": Classification.PROTOCOL_ERROR,
    "521": Classification.INVALID_DOMAIN,  # the host accepts no mail (RFC 7504)
    "530": Classification.POLICY_REJECTION,
    "541": Classification.SPAM_BLOCK,
    "550": Classification.INVALID_RECIPIENT,  # also used for policy, but then with a 5.7 beside it
    "551": Classification.INVALID_RECIPIENT,
    "552": Classification.MAILBOX_FULL,
    "553": Classification.INVALID_RECIPIENT,
    "554": Classification.POLICY_REJECTION,  # "transaction failed": reputation and content, in practice
    "555": Classification.PROTOCOL_ERROR,
    "556": Classification.INVALID_DOMAIN,  # the domain accepts no mail (RFC 7504)
}


def classify(
    *, word: str | None = None, enhanced_code: str | None = None, smtp_status: str | None = None
) -> Classification:
    """The classification of a failure, by the most telling of what is known about it.

    The provider's own word comes first, for it has read the whole conversation; then the enhanced code,
    exactly and by its subject; then the reply code. `unclassified` is no word: the codes may still tell.
    """
    found = WORDS.get(word.lower()) if word else None
    if found is None and enhanced_code:
        found = ENHANCED.get(enhanced_code) or SUBJECTS.get(enhanced_code[:3])
    if found is None and smtp_status:
        # The class alone is worth something for 4 (try again), nothing for 5.
        fallback = Classification.TRANSIENT_FAILURE if smtp_status.startswith("4") else None
        found = REPLIES.get(smtp_status, fallback)
    return found or Classification.UNCLASSIFIED


def code(classification: Classification) -> ClassificationCode:
    """The number that goes with a classification."""
    return ClassificationCode[classification.name]


# An enhanced code is told from an address such as 5.1.1.2 by what stands around it.
_ENHANCED = re.compile(r"(?<![\w.])([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9]|\.[0-9])")
_REPLY = re.compile(r"(?:^\s*|\s)([245][0-9]{2})(?=[ -]#?[245]\.[0-9]{1,3}\.[0-9]|$)|^\s*([245][0-9]{2})(?=[\s:-])")
# Servers answer in lines; what follows the first thousand characters is no code.
_LONGEST = 1000


def find_codes(*texts: str | None) -> Codes:
    """The first reply code and the first enhanced code in texts such as "550 5.1.1 No such user" or "452"."""
    smtp_status = enhanced_code = None
    for text in texts:
        if not text:
            continue
        head = text[:_LONGEST]
        if smtp_status is None and (reply := _REPLY.search(head)):
            smtp_status = reply[1] or reply[2]
        if enhanced_code is None and (match := _ENHANCED.search(head)):
            enhanced_code = match[1]
    return Codes(smtp_status, enhanced_code)
