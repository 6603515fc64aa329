"""What providers' own words and SMTP's reply codes are judged to mean.

Sources: Ark's list of classifications, CloudMailin's kinds; RFC 5321 4.2, RFC 7504, RFC 4954 and RFC 5248 (reply
codes). A row that somebody might judge otherwise says why it is as it is. What follows from a wrong one is an
address that is suppressed although it works, so that the doubtful ones lean away from the recipient.
`docs/classification.md` is made of these tables and those of `shared.classification.enhanced_codes` and
`shared.classification.patterns`.
"""

from collections.abc import Mapping
from typing import NamedTuple

from shared.vocabulary import Classification, ClassificationCode

C = Classification


class Judgement(NamedTuple):
    """What something means, and why, where that is not plain. What is `vague` is asked after everything else."""

    classification: Classification
    why: str = ""
    vague: bool = False


_NO_CODE = ClassificationCode.UNCLASSIFIED

WORDS: Mapping[str, Judgement] = {
    **{str(item): Judgement(item) for item in C if item is not C.UNCLASSIFIED},
    **{str(item.value): Judgement(Classification[item.name]) for item in ClassificationCode if item is not _NO_CODE},
    # The other list that Ark's deliveries API uses for the same things. Its numbers are not read: they contradict
    # those of the events.
    "no_mailbox": Judgement(C.INVALID_RECIPIENT),
    "not_accepting_mail": Judgement(C.INACTIVE_MAILBOX),
    "message_too_large": Judgement(C.POLICY_REJECTION, "about the message, not about the mailbox"),
    "policy_violation": Judgement(C.POLICY_REJECTION),
    "tls_required": Judgement(C.POLICY_REJECTION),
    "dns_error": Judgement(C.DNS_FAILURE),
    "temporarily_unavailable": Judgement(C.TRANSIENT_FAILURE),
    # CloudMailin's kinds that are a reason in themselves.
    "spamd": Judgement(C.SPAM_CONTENT, "its own check of the content refused the message"),
    "blocked": Judgement(C.SPAM_BLOCK),
    "suppressed": Judgement(
        C.POLICY_REJECTION, "the provider did not even try; the recipient said nothing", vague=True
    ),
    "retries_exhausted": Judgement(C.TRANSIENT_FAILURE, "it gave up; the address itself was not refused", vague=True),
}
"""Providers' own words, in lower case."""

REPLIES: Mapping[str, Judgement] = {
    "421": Judgement(C.TRANSIENT_FAILURE),
    "432": Judgement(C.TRANSIENT_FAILURE, "a busy mailbox, at Microsoft; a password transition in RFC 4954"),
    "450": Judgement(C.TRANSIENT_FAILURE),
    "451": Judgement(C.TRANSIENT_FAILURE),
    "452": Judgement(C.TRANSIENT_FAILURE, "the server's storage; a full mailbox says 4.2.2 or says so"),
    "454": Judgement(C.PROTOCOL_ERROR, "no TLS just now"),
    "455": Judgement(C.PROTOCOL_ERROR),
    "500": Judgement(C.PROTOCOL_ERROR),
    "501": Judgement(C.PROTOCOL_ERROR),
    "502": Judgement(C.PROTOCOL_ERROR),
    "503": Judgement(C.PROTOCOL_ERROR),
    "504": Judgement(C.PROTOCOL_ERROR),
    "521": Judgement(C.INVALID_DOMAIN, "the host accepts no mail (RFC 7504)"),
    "523": Judgement(C.POLICY_REJECTION, "encryption needed (RFC 5248)"),
    "524": Judgement(C.POLICY_REJECTION, "password transition needed (RFC 5248)"),
    "525": Judgement(C.POLICY_REJECTION, "the sending account is disabled (RFC 5248)"),
    "530": Judgement(C.POLICY_REJECTION),
    "534": Judgement(C.POLICY_REJECTION, "mechanism too weak (RFC 4954)"),
    "535": Judgement(C.POLICY_REJECTION, "credentials invalid (RFC 4954)"),
    "538": Judgement(C.POLICY_REJECTION, "encryption required (RFC 4954)"),
    "541": Judgement(C.SPAM_BLOCK, "in no RFC; what filters write"),
    "550": Judgement(C.INVALID_RECIPIENT, "“mailbox unavailable”; written for anything, so that a text outranks it"),
    "551": Judgement(C.INVALID_RECIPIENT),
    "552": Judgement(C.MAILBOX_FULL, "of a message too large the text or a 5.3.4 tells"),
    "553": Judgement(C.INVALID_RECIPIENT),
    "554": Judgement(C.POLICY_REJECTION, "“transaction failed”: reputation and content, in practice"),
    "555": Judgement(C.PROTOCOL_ERROR),
    "556": Judgement(C.INVALID_DOMAIN, "the domain accepts no mail (RFC 7504)"),
}
"""Reply codes. Any other 4xx is a transient failure; any other 5xx says nothing.

What condemns an address holds only where the code stands alone (`shared.classification.classify.classify`).
"""
