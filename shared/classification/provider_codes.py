"""The classification that each provider's word and each SMTP reply code stands for.

Sources: Ark's list of classifications and CloudMailin's kinds; RFC 5321 4.2, RFC 7504, RFC 4954 and RFC 5248 for reply
codes. A debatable row gives its reason. A wrong row suppresses an address that works, so doubtful cases are decided in
favour of the recipient. `docs/classification.md` is generated from these tables and those of
`shared.classification.enhanced_codes` and `shared.classification.patterns`.
"""

from collections.abc import Mapping
from typing import NamedTuple

from shared.vocabulary import Classification, ClassificationCode

C = Classification


class Meaning(NamedTuple):
    """A classification, and its reason if it is debatable. A `vague` one only counts if nothing else says more."""

    classification: Classification
    why: str = ""
    vague: bool = False


_NO_CODE = ClassificationCode.UNCLASSIFIED

PROVIDER_WORDS: Mapping[str, Meaning] = {
    **{str(item): Meaning(item) for item in C if item is not C.UNCLASSIFIED},
    **{str(item.value): Meaning(Classification[item.name]) for item in ClassificationCode if item is not _NO_CODE},
    # Ark's deliveries API has another list for the same reasons. Its numbers are ignored: they contradict the events'.
    "no_mailbox": Meaning(C.INVALID_RECIPIENT),
    "not_accepting_mail": Meaning(C.INACTIVE_MAILBOX),
    "message_too_large": Meaning(C.POLICY_REJECTION, "about the message, not about the mailbox"),
    "policy_violation": Meaning(C.POLICY_REJECTION),
    "tls_required": Meaning(C.POLICY_REJECTION),
    "dns_error": Meaning(C.DNS_FAILURE),
    "temporarily_unavailable": Meaning(C.TRANSIENT_FAILURE),
    # CloudMailin's kinds that state a reason.
    "spamd": Meaning(C.SPAM_CONTENT, "the provider's own content check refused the message"),
    "blocked": Meaning(C.SPAM_BLOCK),
    "suppressed": Meaning(
        C.POLICY_REJECTION, "the provider did not attempt delivery; the recipient's server said nothing", vague=True
    ),
    "retries_exhausted": Meaning(C.TRANSIENT_FAILURE, "it gave up; the address itself was not refused", vague=True),
}
"""Providers' words for a failure, in lower case."""

REPLY_CODES: Mapping[str, Meaning] = {
    "421": Meaning(C.TRANSIENT_FAILURE),
    "432": Meaning(C.TRANSIENT_FAILURE, "a busy mailbox, at Microsoft; a password transition in RFC 4954"),
    "450": Meaning(C.TRANSIENT_FAILURE),
    "451": Meaning(C.TRANSIENT_FAILURE),
    "452": Meaning(C.TRANSIENT_FAILURE, "the server's storage; for a full mailbox servers write 4.2.2 or say so"),
    "454": Meaning(C.PROTOCOL_ERROR, "no TLS just now"),
    "455": Meaning(C.PROTOCOL_ERROR),
    "500": Meaning(C.PROTOCOL_ERROR),
    "501": Meaning(C.PROTOCOL_ERROR),
    "502": Meaning(C.PROTOCOL_ERROR),
    "503": Meaning(C.PROTOCOL_ERROR),
    "504": Meaning(C.PROTOCOL_ERROR),
    "521": Meaning(C.INVALID_DOMAIN, "the host accepts no mail (RFC 7504)"),
    "523": Meaning(C.POLICY_REJECTION, "encryption needed (RFC 5248)"),
    "524": Meaning(C.POLICY_REJECTION, "password transition needed (RFC 5248)"),
    "525": Meaning(C.POLICY_REJECTION, "the sending account is disabled (RFC 5248)"),
    "530": Meaning(C.POLICY_REJECTION),
    "534": Meaning(C.POLICY_REJECTION, "mechanism too weak (RFC 4954)"),
    "535": Meaning(C.POLICY_REJECTION, "credentials invalid (RFC 4954)"),
    "538": Meaning(C.POLICY_REJECTION, "encryption required (RFC 4954)"),
    "541": Meaning(C.SPAM_BLOCK, "in no RFC; spam filters write it"),
    "550": Meaning(C.INVALID_RECIPIENT, "“mailbox unavailable”; written for anything, so a text takes precedence"),
    "551": Meaning(C.INVALID_RECIPIENT),
    "552": Meaning(C.MAILBOX_FULL, "if the message is too large, the text or a 5.3.4 says so"),
    "553": Meaning(C.INVALID_RECIPIENT),
    "554": Meaning(C.POLICY_REJECTION, "“transaction failed”: reputation and content, in practice"),
    "555": Meaning(C.PROTOCOL_ERROR),
    "556": Meaning(C.INVALID_DOMAIN, "the domain accepts no mail (RFC 7504)"),
}
"""Reply codes. Any other 4xx is a transient failure; any other 5xx is unclassified.

A code means an invalid address only if it stands alone (`shared.classification.classify.classify`).
"""
