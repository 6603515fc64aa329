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
    """A classification, and its reason if it is debatable. A `vague` one only counts if nothing else says more.

    `beside_text` is the classification if there is also a text that matches no pattern.
    """

    classification: Classification
    why: str = ""
    vague: bool = False
    beside_text: Classification | None = None

    def apply(self, *, beside_text: bool) -> Classification | None:
        """Return the classification, or None if the row says nothing."""
        found = self.beside_text if beside_text and self.beside_text else self.classification
        return None if found is Classification.UNCLASSIFIED else found


_NO_CODE = ClassificationCode.UNCLASSIFIED

_NOT_SENT = "the provider did not attempt delivery; the recipient's server said nothing"
_HARD = Meaning(
    C.INVALID_RECIPIENT,
    "the provider calls the bounce permanent, and does not write to the address again",
    vague=True,
    beside_text=C.UNCLASSIFIED,
)
_SOFT = Meaning(C.TRANSIENT_FAILURE, "the provider calls the failure temporary", vague=True)
_AGAIN = Meaning(C.TRANSIENT_FAILURE, "the provider tries again", vague=True)
_BLOCKED = Meaning(C.POLICY_REJECTION, _NOT_SENT, vague=True)
_UNKNOWN_USER = Meaning(C.INVALID_RECIPIENT, vague=True)
_CLOSED = Meaning(C.INACTIVE_MAILBOX, vague=True)
_FULL = Meaning(C.MAILBOX_FULL, vague=True)
_NO_DOMAIN = Meaning(C.INVALID_DOMAIN, vague=True)
_NO_HOST = Meaning(C.DNS_FAILURE, vague=True)
_POLICY = Meaning(C.POLICY_REJECTION, vague=True)
_CONTENT = Meaning(C.SPAM_CONTENT, vague=True)
_SPAM = Meaning(C.SPAM_BLOCK, vague=True)
_CONNECTION = Meaning(C.CONNECTION_ERROR, vague=True)
_ROUTING = Meaning(C.ROUTING_ERROR, vague=True)
_PROTOCOL = Meaning(C.PROTOCOL_ERROR, vague=True)

# Vague throughout: a code or a text of the recipient's server, which most of these providers pass on, says more.
_OF_PROVIDERS: Mapping[str, Mapping[str, Meaning]] = {
    "brevo": {
        "hard_bounce": _HARD,
        "soft_bounce": _SOFT,
        "deferred": _AGAIN,
        "invalid_email": _UNKNOWN_USER,
        "blocked": _BLOCKED,
        "error": _POLICY,
    },
    "mailjet": {
        "hard bounce": _HARD,
        "greylisted": _AGAIN,
        "user unknown": _UNKNOWN_USER,
        "mailbox inactive": _CLOSED,
        "quota exceeded": _FULL,
        "blacklisted": _SPAM,
        "spam reporter": _BLOCKED,
        "invalid domain": _NO_DOMAIN,
        "no mail host": _NO_HOST,
        "relay/access denied": _ROUTING,
        "greylisting": _AGAIN,
        "typofix": _UNKNOWN_USER,
        "bad or empty template": _POLICY,
        "error in template language": _POLICY,
        "sender blocked": _SPAM,
        "content blocked": _CONTENT,
        "policy issue": _POLICY,
        "system issue": _SOFT,
        "protocol issue": _PROTOCOL,
        "connection issue": _CONNECTION,
        "preblocked": _BLOCKED,
        "duplicate in campaign": _BLOCKED,
    },
    "sparkpost": {
        "10": _UNKNOWN_USER,
        "20": _SOFT,
        "21": _NO_HOST,
        "22": _FULL,
        "23": Meaning(C.POLICY_REJECTION, "the message is too large", vague=True),
        "24": _CONNECTION,
        "25": Meaning(C.POLICY_REJECTION, "SparkPost's administrator failed it", vague=True),
        "30": _HARD,
        "40": _SOFT,
        "50": _POLICY,
        "51": _SPAM,
        "52": _CONTENT,
        "53": Meaning(C.POLICY_REJECTION, "a prohibited attachment", vague=True),
        "54": Meaning(C.ROUTING_ERROR, "relaying denied", vague=True),
        "70": _SOFT,
        "policy_rejection": _BLOCKED,
        "generation_rejection": _BLOCKED,
        "generation_failure": _POLICY,
    },
    "mailersend": {"hard_bounced": _HARD, "soft_bounced": _SOFT, "deferred": _AGAIN, "suppressed": _BLOCKED},
    "mandrill": {
        "hard_bounce": _HARD,
        "soft_bounce": _SOFT,
        "deferral": _AGAIN,
        "reject": _BLOCKED,
        "bad_mailbox": _UNKNOWN_USER,
        "invalid_domain": _NO_DOMAIN,
        "mailbox_full": _FULL,
        "hard-bounce": _BLOCKED,
        "soft-bounce": _BLOCKED,
        "spam": _BLOCKED,
        "unsub": _BLOCKED,
        "custom": _BLOCKED,
        "rule": _BLOCKED,
    },
    "mailtrap": {
        "bounce": _HARD,
        "soft bounce": _AGAIN,
        "suspension": Meaning(C.POLICY_REJECTION, "Mailtrap suspended sending", vague=True),
        "reject": _BLOCKED,
        "badmailbox": _UNKNOWN_USER,
        "spam": _SPAM,
    },
    "unisender": {
        "hard_bounced": _HARD,
        "soft_bounced": _AGAIN,
        "err_user_unknown": _UNKNOWN_USER,
        "err_user_inactive": _CLOSED,
        "err_mailbox_discarded": _CLOSED,
        "err_mailbox_full": _FULL,
        "err_too_large": _POLICY,
        "err_unreachable": _CONNECTION,
        "err_domain_inactive": _NO_DOMAIN,
        "err_destination_misconfigured": _ROUTING,
        "err_will_retry": _AGAIN,
        "err_spam_rejected": _SPAM,
        "err_spam_skipped": _CONTENT,
        "err_spam_removed": _CONTENT,
        "err_blacklisted": _SPAM,
        "err_unsubscribed": _BLOCKED,
        "err_skip_letter": _BLOCKED,
        "err_delivery_failed": _SOFT,
        "err_lost": _SOFT,
    },
    "lettermint": {
        "message.hard_bounced": _HARD,
        "message.soft_bounced": _AGAIN,
        "message.suppressed": _BLOCKED,
        "message.policy_rejected": _BLOCKED,
        "message.failed": _SOFT,
    },
    "emailit": {
        **{f"{prefix}bounced": _HARD for prefix in ("", "email.")},
        **{f"{prefix}attempted": _AGAIN for prefix in ("", "email.")},
        **{f"{prefix}{word}": _BLOCKED for prefix in ("", "email.") for word in ("rejected", "suppressed")},
        **{f"{prefix}failed": _SOFT for prefix in ("", "email.")},
    },
    "ahasend": {
        "invalidrecipient": _UNKNOWN_USER,
        "baddomain": _NO_DOMAIN,
        "inactivemailbox": _CLOSED,
        "quotaissues": _FULL,
        "invalidsender": _POLICY,
        "authenticationfailed": _POLICY,
        "policyrelated": _POLICY,
        "noanswerfromhost": _CONNECTION,
        "badconnection": _CONNECTION,
        "dnsfailure": _NO_HOST,
        "routingerrors": _ROUTING,
        "protocolerrors": _PROTOCOL,
        "transientfailure": _SOFT,
        "messageexpired": _SOFT,
        "message.bounced": _HARD,
        "message.transient_error": _AGAIN,
        "message.suppressed": _BLOCKED,
        "message.failed": _SOFT,
    },
    "mailpace": {
        "email.bounced": _HARD,
        "email.deferred": _AGAIN,
        "email.spam": Meaning(C.SPAM_CONTENT, "MailPace's own content check refused the message", vague=True),
    },
    "smtp2go": {"bounce hard": _HARD, "bounce soft": _SOFT, "reject": _BLOCKED},
    "azure": {
        "bounced": _HARD,
        "suppressed": _BLOCKED,
        "failed": _SOFT,
        "filteredspam": _CONTENT,
        "quarantined": Meaning(C.SPAM_CONTENT, "quarantined as spam, bulk mail or phishing", vague=True),
    },
    "elasticemail": {
        "nomailbox": _UNKNOWN_USER,
        "dnsproblem": _NO_HOST,
        "accountproblem": Meaning(C.MAILBOX_FULL, "full, or no longer used: in favour of the recipient", vague=True),
        "spam": _SPAM,
        "blacklisted": _SPAM,
        "contentfilter": _CONTENT,
        "greylisted": _SOFT,
        "throttled": _SOFT,
        "notdelivered": _SOFT,
        "timeout": _CONNECTION,
        "connectionproblem": _CONNECTION,
        "connectionterminated": _CONNECTION,
        "spfproblem": _POLICY,
        "whitelistingproblem": _POLICY,
        "codeerror": _PROTOCOL,
        "ignore": _BLOCKED,
        "suppressed": _BLOCKED,
        "manualcancel": _BLOCKED,
    },
    "cloudflare": {
        "hard": _HARD,
        "soft": _SOFT,
        "permanent_failure": _HARD,
        "temporary_failure": _SOFT,
        "suppressed": _BLOCKED,
        "cf.email.sending.message.deferred": _AGAIN,
        "cf.email.sending.message.rejected": _BLOCKED,
        "cf.email.sending.message.failed": _SOFT,
    },
    "kumomta": {
        "invalidrecipient": _UNKNOWN_USER,
        "baddomain": _NO_DOMAIN,
        "badconnection": _CONNECTION,
        "dnsfailure": _NO_HOST,
        "noanswerfromhost": _CONNECTION,
        "quotaissues": _FULL,
        "inactivemailbox": _CLOSED,
        "spamblock": _SPAM,
        "spamcontent": _CONTENT,
        "policyrelated": _POLICY,
        "messageexpired": _SOFT,
        "routingerrors": _ROUTING,
        "relaying": _ROUTING,
        "protocolerrors": _PROTOCOL,
        "invalidsender": _POLICY,
        "authenticationfailed": _POLICY,
        "virusdetected": _CONTENT,
        "prohibitedattachment": _CONTENT,
        "badconfiguration": _ROUTING,
        "badconnections": _CONNECTION,
        "transientfailure": _AGAIN,
        "expiration": _SOFT,
        "adminbounce": Meaning(C.POLICY_REJECTION, "an administrator removed the message from the queue", vague=True),
        "rejection": _POLICY,
    },
    "scaleway": {
        "email_dropped": _HARD,
        "email_mailbox_not_found": _UNKNOWN_USER,
        "email_spam": _CONTENT,
        "email_blocklisted": _BLOCKED,
        "email_deferred": _AGAIN,
    },
}
"""The words of each provider, in lower case: of its event, or of its reason for a failure."""

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
    # MailChannels' events, whose status may be missing, or the 250 of the other recipients.
    "hard-bounced": Meaning(
        C.INVALID_RECIPIENT,
        "MailChannels puts the recipient on its own suppression list",
        vague=True,
        beside_text=C.UNCLASSIFIED,
    ),
    "soft-bounced": Meaning(C.TRANSIENT_FAILURE, "MailChannels tries again", vague=True),
    "dropped": Meaning(
        C.POLICY_REJECTION,
        "MailChannels did not attempt delivery; the recipient's server said nothing",
        vague=True,
    ),
    # CloudMailin's kinds. Its details are not documented, and often empty.
    "bounce": Meaning(
        C.INVALID_RECIPIENT,
        "CloudMailin asks to act on every bounce, and does not attempt delivery to the recipient again",
        vague=True,
        beside_text=C.UNCLASSIFIED,
    ),
    "dispatch_bounce": Meaning(
        C.INVALID_RECIPIENT,
        "the earlier name of a bounce",
        vague=True,
        beside_text=C.UNCLASSIFIED,
    ),
    "soft_bounce": Meaning(C.TRANSIENT_FAILURE, "CloudMailin tries again", vague=True),
    "dispatch_soft_bounce": Meaning(
        C.TRANSIENT_FAILURE,
        "CloudMailin's dispatch failed and is tried again",
        vague=True,
    ),
    "error": Meaning(
        C.POLICY_REJECTION,
        "CloudMailin could not process the message; the recipient's server said nothing",
        vague=True,
    ),
    "retries_exhausted": Meaning(
        C.TRANSIENT_FAILURE,
        "CloudMailin gave up; the address itself was not refused",
        vague=True,
    ),
    "suppressed": Meaning(
        C.POLICY_REJECTION,
        "the provider did not attempt delivery; the recipient's server said nothing",
        vague=True,
    ),
    "rate_limit": Meaning(
        C.POLICY_REJECTION,
        "the allowance of the account is used up; the recipient's server said nothing",
        vague=True,
    ),
    "rate_limited": Meaning(
        C.POLICY_REJECTION,
        "the earlier name of a rate limit",
        vague=True,
    ),
    "auto_reply": Meaning(
        C.UNCLASSIFIED,
        "no failure: the message arrived, and a program answered it",
        vague=True,
    ),
    # SES' types and subtypes of bounces, which Resend passes on, and its types of delays.
    "permanent/general": Meaning(
        C.INVALID_RECIPIENT,
        "SES does not try again, and puts the recipient on its suppression list",
        vague=True,
        beside_text=C.UNCLASSIFIED,
    ),
    "permanent/noemail": Meaning(C.INVALID_RECIPIENT),
    "permanent/suppressed": Meaning(C.POLICY_REJECTION, "the provider did not attempt delivery"),
    "permanent/onaccountsuppressionlist": Meaning(C.POLICY_REJECTION, "SES did not attempt delivery"),
    "transient/general": Meaning(C.TRANSIENT_FAILURE, "often an automatic reply", vague=True),
    "transient/mailboxfull": Meaning(C.MAILBOX_FULL),
    "transient/messagetoolarge": Meaning(C.POLICY_REJECTION, "about the message, not about the mailbox"),
    "transient/contentrejected": Meaning(C.SPAM_CONTENT),
    "transient/attachmentrejected": Meaning(C.POLICY_REJECTION, "about the attachment, not about the mailbox"),
    "permanent": Meaning(C.INVALID_RECIPIENT, "no subtype is known", vague=True, beside_text=C.UNCLASSIFIED),
    "transient": Meaning(C.TRANSIENT_FAILURE, "the provider tries again", vague=True),
    "temporary": Meaning(C.TRANSIENT_FAILURE, "the provider tries again", vague=True),
    "delay/internalfailure": Meaning(C.TRANSIENT_FAILURE, "a fault of SES"),
    "delay/mailboxfull": Meaning(C.MAILBOX_FULL),
    "delay/spamdetected": Meaning(C.SPAM_BLOCK),
    "delay/recipientservererror": Meaning(C.TRANSIENT_FAILURE, "a fault of the recipient's server", vague=True),
    "delay/ipfailure": Meaning(C.SPAM_BLOCK, "the sending address is blocked or throttled"),
    "delay/transientcommunicationfailure": Meaning(C.CONNECTION_ERROR, vague=True),
    "delay/byoiphostnamelookupunavailable": Meaning(C.DNS_FAILURE),
    "delay/sendingdeferral": Meaning(C.POLICY_REJECTION, "SES itself holds the message back"),
    "delay/general": Meaning(C.TRANSIENT_FAILURE, vague=True),
    # SendGrid's classification of bounces, which it reads from the reply, and its reasons for drops.
    "invalid address": Meaning(C.INVALID_RECIPIENT, vague=True, beside_text=C.INVALID_RECIPIENT),
    "technical": Meaning(C.TRANSIENT_FAILURE, "by SendGrid's reading of the reply", vague=True),
    "content": Meaning(C.SPAM_CONTENT, "by SendGrid's reading of the reply", vague=True),
    "reputation": Meaning(C.SPAM_BLOCK, "by SendGrid's reading of the reply", vague=True),
    "frequency/volume": Meaning(C.SPAM_BLOCK, "by SendGrid's reading of the reply", vague=True),
    "mailbox unavailable": Meaning(
        C.INACTIVE_MAILBOX, "full, disabled or unknown", vague=True, beside_text=C.UNCLASSIFIED
    ),
    "expired": Meaning(C.TRANSIENT_FAILURE, "the provider gave up", vague=True),
    "bounced address": Meaning(C.POLICY_REJECTION, "not sent: the address bounced before"),
    "unsubscribed address": Meaning(C.POLICY_REJECTION, "not sent: the recipient has unsubscribed"),
    "spam reporting address": Meaning(C.POLICY_REJECTION, "not sent: the recipient complained before"),
    "spam content": Meaning(C.SPAM_CONTENT),
    "recipient list over package quota": Meaning(C.POLICY_REJECTION, "about the account"),
    "invalid smtpapi header": Meaning(C.POLICY_REJECTION, "about the request"),
    "invalid": Meaning(C.INVALID_RECIPIENT, "not an address", vague=True),
    # Postmark's types of bounces.
    "hardbounce": Meaning(
        C.INVALID_RECIPIENT,
        "Postmark deactivates the address",
        vague=True,
        beside_text=C.UNCLASSIFIED,
    ),
    "softbounce": Meaning(C.TRANSIENT_FAILURE, "Postmark gave up; the address stays active", vague=True),
    "dnserror": Meaning(C.DNS_FAILURE, vague=True),
    "openrelaytest": Meaning(C.POLICY_REJECTION, vague=True),
    "spamnotification": Meaning(C.SPAM_CONTENT),
    "virusnotification": Meaning(C.SPAM_CONTENT),
    "bademailaddress": Meaning(C.INVALID_RECIPIENT, "not an address"),
    "manuallydeactivated": Meaning(C.POLICY_REJECTION, "not sent: deactivated by a person"),
    "unconfirmed": Meaning(C.POLICY_REJECTION, "about the sender"),
    "dmarcpolicy": Meaning(C.POLICY_REJECTION, "about the sender's domain"),
    "smtpapierror": Meaning(C.POLICY_REJECTION, "about the request"),
    "templaterenderingfailed": Meaning(C.POLICY_REJECTION, "about the template"),
    "rendering failure": Meaning(C.POLICY_REJECTION, "about the template"),
    # Mailgun's reasons.
    "suppress-bounce": Meaning(C.POLICY_REJECTION, "not sent: the address bounced before"),
    "suppress-complaint": Meaning(C.POLICY_REJECTION, "not sent: the recipient complained before"),
    "suppress-unsubscribe": Meaning(C.POLICY_REJECTION, "not sent: the recipient has unsubscribed"),
    "espblock": Meaning(C.SPAM_BLOCK),
    "greylisted": Meaning(C.TRANSIENT_FAILURE),
    "old": Meaning(C.TRANSIENT_FAILURE, "Mailgun gave up", vague=True),
    "spamd": Meaning(C.SPAM_CONTENT, "the provider's own content check refused the message"),
    "blocked": Meaning(C.SPAM_BLOCK),
    **{f"{name}:{word}": meaning for name, words in _OF_PROVIDERS.items() for word, meaning in words.items()},
}
"""Providers' words for a failure, in lower case. Where a word means something else elsewhere, its provider is named."""

_ANY_REFUSAL = "servers also write it for any refusal of the sender or the message"

REPLY_CODES: Mapping[str, Meaning] = {
    "421": Meaning(C.TRANSIENT_FAILURE, "the server closes the connection"),
    "432": Meaning(C.TRANSIENT_FAILURE, "a busy mailbox, at Microsoft; a password transition in RFC 4954"),
    "450": Meaning(C.TRANSIENT_FAILURE, "“mailbox unavailable” for now"),
    "451": Meaning(C.TRANSIENT_FAILURE, "an error of the server"),
    "452": Meaning(C.TRANSIENT_FAILURE, "the server's storage; for a full mailbox servers write 4.2.2 or say so"),
    "454": Meaning(C.PROTOCOL_ERROR, "no TLS just now"),
    "455": Meaning(C.PROTOCOL_ERROR, "parameters that the server cannot apply"),
    "500": Meaning(C.PROTOCOL_ERROR, _ANY_REFUSAL, beside_text=C.POLICY_REJECTION),
    "501": Meaning(C.PROTOCOL_ERROR, _ANY_REFUSAL, beside_text=C.POLICY_REJECTION),
    "502": Meaning(C.PROTOCOL_ERROR, _ANY_REFUSAL, beside_text=C.POLICY_REJECTION),
    "503": Meaning(C.PROTOCOL_ERROR, _ANY_REFUSAL, beside_text=C.POLICY_REJECTION),
    "504": Meaning(C.PROTOCOL_ERROR, _ANY_REFUSAL, beside_text=C.POLICY_REJECTION),
    "521": Meaning(C.INVALID_DOMAIN, "the host accepts no mail (RFC 7504)", beside_text=C.UNCLASSIFIED),
    "523": Meaning(C.POLICY_REJECTION, "encryption needed (RFC 5248)"),
    "524": Meaning(C.POLICY_REJECTION, "password transition needed (RFC 5248)"),
    "525": Meaning(C.POLICY_REJECTION, "the sending account is disabled (RFC 5248)"),
    "530": Meaning(C.POLICY_REJECTION, "authentication required (RFC 4954)"),
    "534": Meaning(C.POLICY_REJECTION, "mechanism too weak (RFC 4954)"),
    "535": Meaning(C.POLICY_REJECTION, "credentials invalid (RFC 4954)"),
    "538": Meaning(C.POLICY_REJECTION, "encryption required (RFC 4954)"),
    "541": Meaning(C.SPAM_BLOCK, "in no RFC; spam filters write it"),
    "550": Meaning(
        C.INVALID_RECIPIENT,
        "“mailbox unavailable”; written for anything, so a text takes precedence",
        beside_text=C.UNCLASSIFIED,
    ),
    "551": Meaning(C.INVALID_RECIPIENT, "“user not local”", beside_text=C.UNCLASSIFIED),
    "552": Meaning(
        C.MAILBOX_FULL,
        "also written for size, content and rules; the texts of full mailboxes are known",
        beside_text=C.POLICY_REJECTION,
    ),
    "553": Meaning(C.INVALID_RECIPIENT, "“mailbox name not allowed”", beside_text=C.UNCLASSIFIED),
    "554": Meaning(C.POLICY_REJECTION, "“transaction failed”: reputation and content, in practice"),
    "555": Meaning(C.PROTOCOL_ERROR, _ANY_REFUSAL, beside_text=C.POLICY_REJECTION),
    "556": Meaning(C.INVALID_DOMAIN, "the domain accepts no mail (RFC 7504)", beside_text=C.UNCLASSIFIED),
}
"""Reply codes. Any other 4xx is a transient failure; any other 5xx is unclassified.

A code means an invalid address only if it stands alone (`shared.classification.classify.classify`).
"""
