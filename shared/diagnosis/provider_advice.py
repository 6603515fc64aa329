"""What each provider does after each of its events, and what a person does next.

One row for each word of each provider. A row says what the word means there and names the next step; `{recipient}`,
`{domain}`, `{sender_domain}`, `{source}`, `{api_source}` (the source, if its provider's API can be asked), `{message}`
(the options that find the message) and `{their_message}` (the message, with the provider's id) are replaced. The
sources are the providers' own pages about their events and their support guides.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Advice(NamedTuple):
    """What an event means at its provider, the next step, and the commands that belong to it."""

    meaning: str
    step: str
    commands: tuple[str, ...] = ()


LOOK_AGAIN = ("tidings diagnose {message}",)
LIFT = ("tidings suppressions why {recipient}", "tidings suppressions lift {recipient}")
ASK_RECIPIENT = (
    "Ask {recipient} to look in the spam and junk folders, the quarantine, forwarding and mailbox rules: only the "
    "mail system of {domain} knows where the message is. Record each answer, which is spam, junk, quarantine, "
    "forwarding or rules with found, not_found or not_checked:"
)
RECORD = ("tidings diagnose --message-id {id} --recipient {recipient} --answer spam=not_found",)

MAILCHANNELS: Mapping[str, Advice] = {
    "processed": Advice(
        "MailChannels has taken the message and is delivering it.",
        "Look again in an hour; a delivered or bounced event normally follows within minutes:",
        LOOK_AGAIN,
    ),
    "delivered": Advice("The mail system of {domain} took the message from MailChannels.", ASK_RECIPIENT, RECORD),
    "soft-bounced": Advice(
        "MailChannels tries again by itself until the message is delivered or fails for good.",
        "Do not send the message to {recipient} again: it would arrive twice. Look again tomorrow:",
        LOOK_AGAIN,
    ),
    "hard-bounced": Advice(
        "MailChannels does not try again, and has put {recipient} on its own suppression list.",
        "If {recipient} is known to work, lift both entries, here and on MailChannels' list, before sending again:",
        LIFT,
    ),
    "dropped": Advice(
        "MailChannels did not send the message: an error while processing it, or its own suppression list.",
        "Compare MailChannels' suppression list with ours, and correct the request if the address is on neither:",
        ("tidings suppressions why {recipient}", "tidings suppressions pull --source {api_source} --dry-run"),
    ),
    "open": Advice("MailChannels saw its tracking image loaded.", "Nothing: the message arrived."),
    "click": Advice("MailChannels saw a tracked link followed.", "Nothing: the message arrived."),
    "complained": Advice("{recipient} reported the message as spam.", "Do not write to {recipient} again."),
    "unsubscribed": Advice(
        "{recipient} used the unsubscribe link.", "Send {recipient} only mail that is not a subscription."
    ),
}

POSTAL: Mapping[str, Advice] = {
    "MessageSent": Advice("The mail system of {domain} took the message.", ASK_RECIPIENT, RECORD),
    "MessageDelayed": Advice(
        "The provider tries again by itself: up to 18 times in about two days.",
        "Do not send the message to {recipient} again: it would arrive twice. Look again tomorrow:",
        LOOK_AGAIN,
    ),
    "MessageDeliveryFailed": Advice(
        "The provider does not try again, and suppresses {recipient} after a hard failure.",
        "If {recipient} is known to work, remove it from the provider's suppressions and lift the entry here:",
        LIFT,
    ),
    "MessageHeld": Advice(
        "The provider keeps the message and does not send it until a person releases it.",
        "Open the page of {their_message} at the provider of {source}: its reason is a spam score, a hold of the "
        "server or of the credential, or a suppressed address. Release it there, or cancel it.",
    ),
    "MessageBounced": Advice(
        "The mail system of {domain} first took the message and later returned it. The provider does not suppress "
        "the address by itself.",
        "Read the returned mail of {their_message} at the provider of {source} for the reason, then suppress "
        "{recipient} if it does not work:",
        ("tidings suppressions why {recipient}", "tidings suppressions add {recipient}"),
    ),
    "MessageLoaded": Advice("The provider saw its tracking image loaded.", "Nothing: the message arrived."),
    "MessageLinkClicked": Advice("The provider saw a tracked link followed.", "Nothing: the message arrived."),
}

CLOUDMAILIN: Mapping[str, Advice] = {
    "registration": Advice(
        "CloudMailin has taken the message and prepares it.",
        "Look again in an hour; a dispatch event normally follows within minutes:",
        LOOK_AGAIN,
    ),
    "dispatch": Advice(
        "CloudMailin has handed the message to its outbound server.",
        "Look again in an hour; a delivery or bounce event normally follows within minutes:",
        LOOK_AGAIN,
    ),
    "rate_limit": Advice(
        "The domain has used up its allowance. CloudMailin sends the message once there is allowance again.",
        "Send less from {sender_domain}, or ask CloudMailin for a larger allowance. Do not send the message again.",
    ),
    "delivery": Advice("The mail system of {domain} took the message from CloudMailin.", ASK_RECIPIENT, RECORD),
    "bounce": Advice(
        "CloudMailin does not try again. It suspends accounts with many bounces.",
        "Do not send to {recipient} again before the address is known to work; then lift the entry here:",
        LIFT,
    ),
    "soft_bounce": Advice(
        "CloudMailin tries again a number of times by itself.",
        "Do not send the message to {recipient} again: it would arrive twice. Look again tomorrow:",
        LOOK_AGAIN,
    ),
    "dispatch_soft_bounce": Advice(
        "CloudMailin's own outbound server deferred the message, and CloudMailin tries again by itself. This says "
        "nothing about {recipient}.",
        "Look again in an hour. If it goes on, ask CloudMailin's support:",
        LOOK_AGAIN,
    ),
    "error": Advice(
        "CloudMailin failed while processing the message. This says nothing about {recipient}.",
        "Send the message once more. If the error returns, send CloudMailin's support the report:",
        ("tidings diagnose {message} --report",),
    ),
    "retries_exhausted": Advice(
        "CloudMailin tried for as long as it does, and gave up. {recipient} itself was not refused.",
        "Find out why {domain} did not take mail for so long, from the deferrals before; then send again:",
        ("tidings trace {message}",),
    ),
    "open": Advice("CloudMailin saw its tracking image loaded.", "Nothing: the message arrived."),
    "read": Advice("{recipient} had the message open for a while.", "Nothing: the message was read."),
    "click": Advice("CloudMailin saw a tracked link followed.", "Nothing: the message arrived."),
    "auto_reply": Advice(
        "The mailbox of {recipient} answered automatically, so the message reached it.",
        "Read the automatic reply: {recipient} may be away, or may have left.",
    ),
    "bounce_reply": Advice(
        "Somebody wrote to the return path instead of the sender, so the message was read.",
        "Read the reply, and set a Reply-To address on mail from {sender_domain}.",
    ),
    "suppressed": Advice(
        "CloudMailin did not try: {recipient} bounced before, the content check refused the message, or "
        "{sender_domain} is not verified.",
        "Find out on CloudMailin's page of {their_message} which of the three it was. Lift an entry only if "
        "{recipient} is known to work:",
        LIFT,
    ),
}

MAILWEBHOOK: Mapping[str, Advice] = {
    "inbound": Advice(
        "MailWebhook received it and posted it here.",
        "See which subscriptions it was delivered to:",
        ("tidings deliveries list --message-id {id}",),
    ),
}

_READ_HERE = "Nothing to do about the delivery: the message came in. See which subscriptions it was delivered to:"


def _common(name: str, *, suppresses: bool = True) -> Mapping[str, Advice]:
    """Return the rows that differ between providers by the name only, and by what follows from a complaint."""
    consequence = f", and {name} sends nothing more there" if suppresses else ""
    return {
        "taken": Advice(
            f"{name} has taken the message and is delivering it.",
            "Look again in an hour; the next event normally follows within minutes:",
            LOOK_AGAIN,
        ),
        "delivered": Advice(f"The mail system of {{domain}} took the message from {name}.", ASK_RECIPIENT, RECORD),
        "deferred": Advice(
            f"{{domain}} did not take the message yet, and {name} tries again by itself.",
            "Do not send the message to {recipient} again: it would arrive twice. Look again tomorrow:",
            LOOK_AGAIN,
        ),
        "opened": Advice(f"{name} saw its tracking image loaded.", "Nothing: the message arrived."),
        "clicked": Advice(f"{name} saw a tracked link followed.", "Nothing: the message arrived."),
        "complained": Advice(
            f"{{recipient}} reported the message as spam{consequence}.",
            "Do not write to {recipient} again.",
        ),
        "unsubscribed": Advice("{recipient} unsubscribed.", "Send {recipient} only mail that is not a subscription."),
        "subscribed": Advice(
            "{recipient} takes mail again.",
            "Nothing is wrong. If mail is still held back here, see why and lift the entry:",
            LIFT,
        ),
        "sent": Advice(
            f"{name} has handed the message to its outgoing servers.",
            "Look again in an hour; the next event normally follows within minutes:",
            LOOK_AGAIN,
        ),
        "replied": Advice("{recipient} answered the message.", "Nothing: the message was read."),
        "inbound": Advice(
            f"{name} received it and posted it here.", _READ_HERE, ("tidings deliveries list --message-id {id}",)
        ),
    }


_SES, _SENDGRID, _POSTMARK = _common("Amazon SES"), _common("SendGrid"), _common("Postmark")
_RESEND, _MAILGUN = _common("Resend"), _common("Mailgun")

_SES_FAILURE = Advice(
    "Amazon SES could not make the message from its template, so it sent nothing.",
    "Correct the template or the data of the send that the reason names, then send again:",
    ("tidings trace {message}",),
)
SES: Mapping[str, Advice] = {
    "send": _SES["taken"],
    "delivery": _SES["delivered"],
    "deliverydelay": _SES["deferred"],
    "bounce": Advice(
        "Amazon SES does not try again. After a permanent bounce the address is on the account's suppression list, if "
        "the account has it switched on for bounces.",
        "If {recipient} is known to work, remove it from the account's suppression list and lift the entry here:",
        LIFT,
    ),
    "bounce/rejected": Advice(
        "Amazon SES did not send the message: {recipient} is on its suppression list, the account's or its own.",
        "If {recipient} is known to work, remove it from the account's suppression list in Amazon SES, and lift the "
        "entry here:",
        LIFT,
    ),
    "complaint": _SES["complained"],
    "reject": Advice(
        "Amazon SES took the message and then did not send it, because it found a virus in it.",
        "Remove the attachment that the reason is about, and find out how it came into mail from {sender_domain}.",
    ),
    "rendering failure": _SES_FAILURE,
    "renderingfailure": _SES_FAILURE,
    "open": _SES["opened"],
    "click": _SES["clicked"],
    "subscription": _SES["unsubscribed"],
    "received": _SES["inbound"],
}

_SENDGRID_BLOCK = Advice(
    "{domain} refused the message for now, often for the sender's reputation. SendGrid does not try again, and does "
    "not suppress the address.",
    "Correct what the reason names, such as a block list, then send to {recipient} again:",
    ("tidings trace {message}",),
)
SENDGRID: Mapping[str, Advice] = {
    "processed": _SENDGRID["taken"],
    "deferred": Advice(
        "{domain} did not take the message yet. SendGrid tries again by itself for up to 72 hours.",
        "Do not send the message to {recipient} again: it would arrive twice. Look again tomorrow:",
        LOOK_AGAIN,
    ),
    "delivered": _SENDGRID["delivered"],
    "bounce": Advice(
        "SendGrid does not try again, and has put {recipient} on its list of bounces. If the event's type is "
        "`blocked`, it has not.",
        "If {recipient} is known to work, remove it from the bounces in SendGrid and lift the entry here:",
        LIFT,
    ),
    "blocked": _SENDGRID_BLOCK,
    "dropped": Advice(
        "SendGrid did not try: {recipient} bounced, complained or unsubscribed before, or the request was not valid.",
        "Read the reason. Correct the request, or remove {recipient} from the list in SendGrid that it names, and lift "
        "the entry here:",
        LIFT,
    ),
    "open": _SENDGRID["opened"],
    "click": _SENDGRID["clicked"],
    "spamreport": _SENDGRID["complained"],
    "unsubscribe": _SENDGRID["unsubscribed"],
    "group_unsubscribe": Advice(
        "{recipient} left one of SendGrid's unsubscribe groups.", "Send {recipient} no more mail of this group."
    ),
    "group_resubscribe": _SENDGRID["subscribed"],
}

POSTMARK: Mapping[str, Advice] = {
    "delivery": _POSTMARK["delivered"],
    "bounce": Advice(
        "Postmark does not try again. After a hard bounce it deactivates {recipient} in this message stream.",
        "If {recipient} is known to work, reactivate it on the bounce's page in Postmark, and lift the entry here:",
        LIFT,
    ),
    "bounce/deferred": _POSTMARK["deferred"],
    "bounce/rejected": Advice(
        "Postmark did not send the message, or a policy stopped it: the address is not valid, deactivated or blocked.",
        "Read the type of the bounce. If {recipient} is known to work, reactivate it in Postmark and lift the entry "
        "here:",
        LIFT,
    ),
    "bounce/failed": Advice(
        "Postmark could not make or take the message. This says nothing about {recipient}.",
        "Correct the request or the template that the reason names, then send again:",
        ("tidings trace {message}",),
    ),
    "spamcomplaint": Advice(
        "{recipient} reported the message as spam. Postmark does not lift such a suppression.",
        "Do not write to {recipient} again.",
    ),
    "open": _POSTMARK["opened"],
    "click": _POSTMARK["clicked"],
    "subscriptionchange": _POSTMARK["unsubscribed"],
    "smtpapierror": Advice(
        "Postmark did not take the message that was submitted by SMTP. This says nothing about {recipient}.",
        "Correct the request that the reason names, then send again:",
        ("tidings trace {message}",),
    ),
    "inbound": _POSTMARK["inbound"],
}

RESEND: Mapping[str, Advice] = {
    "email.scheduled": Advice(
        "Resend keeps the message until the time that it was scheduled for.",
        "Look again after that time. To send it earlier, change the schedule at Resend:",
        LOOK_AGAIN,
    ),
    "email.sent": _RESEND["taken"],
    "email.delivered": _RESEND["delivered"],
    "email.delivery_delayed": _RESEND["deferred"],
    "email.bounced": Advice(
        "Resend does not try again. After a permanent bounce it suppresses {recipient}.",
        "If {recipient} is known to work, remove it from the suppressions in Resend and lift the entry here:",
        LIFT,
    ),
    "email.suppressed": Advice(
        "Resend did not send the message: {recipient} is on its suppression list.",
        "If {recipient} is known to work, remove it from the suppressions in Resend and lift the entry here:",
        LIFT,
    ),
    "email.failed": Advice(
        "Resend could not send the message: the request, the quota or the domain is at fault, not {recipient}.",
        "Correct what the reason names, then send again:",
        ("tidings trace {message}",),
    ),
    "email.complained": _RESEND["complained"],
    "email.opened": _RESEND["opened"],
    "email.clicked": _RESEND["clicked"],
    "email.received": _RESEND["inbound"],
}

_MAILGUN_BOUNCE = Advice(
    "Mailgun does not try again. If {domain} refused the address, it is on the domain's list of bounces; code 605, 606 "
    "or 607 means that it was on a list already, and that nothing was sent.",
    "If {recipient} is known to work, remove it from the domain's suppressions in Mailgun and lift the entry here:",
    LIFT,
)
_MAILGUN_REJECTION = Advice(
    "Mailgun took the request and did not try to deliver the message.",
    "Read the reason: it concerns the message, or the sending domain or the account. Correct it, then send again:",
    ("tidings trace {message}",),
)
MAILGUN: Mapping[str, Advice] = {
    "accepted": _MAILGUN["taken"],
    "delivered": _MAILGUN["delivered"],
    "failed": _MAILGUN_BOUNCE,
    "failed/deferred": _MAILGUN["deferred"],
    "permanent_fail": _MAILGUN_BOUNCE,
    "temporary_fail": _MAILGUN["deferred"],
    "bounced": _MAILGUN_BOUNCE,
    "rejected": _MAILGUN_REJECTION,
    "dropped": _MAILGUN_REJECTION,
    "opened": _MAILGUN["opened"],
    "clicked": _MAILGUN["clicked"],
    "unsubscribed": _MAILGUN["unsubscribed"],
    "complained": _MAILGUN["complained"],
}

_TRACE = ("tidings trace {message}",)


def _pick(name: str, *, suppresses: bool = True, **words: str | tuple[str, ...]) -> dict[str, Advice]:
    """Return common rows: each argument is a meaning of `_common`, with the provider's words for it."""
    rows = _common(name, suppresses=suppresses)
    return {
        word: rows[meaning]
        for meaning, given in words.items()
        for word in ((given,) if isinstance(given, str) else given)
    }


def _bounced(name: str, listed: str | None = None) -> Advice:
    """Return the row of a bounce for good. `listed` is where the provider keeps the address from then on."""
    if listed is None:
        return Advice(f"{name} does not try again.", "If {recipient} is known to work, lift the entry here:", LIFT)
    return Advice(
        f"{name} does not try again, and has put {{recipient}} on {listed}.",
        f"If {{recipient}} is known to work, remove it from {listed} and lift the entry here:",
        LIFT,
    )


def _gave_up(name: str) -> Advice:
    """Return the row of a failure that was temporary for as long as the provider tried."""
    return Advice(
        f"{name} tried for as long as it does, and gave up. {{recipient}} itself was not refused.",
        "Find out why {domain} did not take mail for so long, from the reason and the events before; then send again:",
        _TRACE,
    )


def _not_sent(name: str, why: str, listed: str) -> Advice:
    """Return the row of a message that the provider did not try to deliver. `listed` is what it looked up."""
    return Advice(
        f"{name} did not send the message: {why}.",
        f"Read the reason. If {{recipient}} is known to work, remove it from {listed} and lift the entry here:",
        LIFT,
    )


def _refused(name: str, why: str) -> Advice:
    """Return the row of a message that the provider did not take or make. It says nothing about the recipient."""
    return Advice(
        f"{name} {why}. This says nothing about {{recipient}}.",
        "Correct what the reason names in the request, the template or the account; then send again:",
        _TRACE,
    )


_BREVO_LIST = "the blocked contacts in Brevo"
_BREVO_ADDRESS = Advice(
    "Brevo found that {recipient} is not an address that mail can be sent to.", "Correct the address, then send again."
)
BREVO: Mapping[str, Advice] = {
    **_pick(
        "Brevo",
        taken=("request", "sent"),
        delivered="delivered",
        deferred="deferred",
        opened=("opened", "unique_opened", "proxy_open", "unique_proxy_open"),
        clicked="click",
        complained=("spam", "complaint"),
        unsubscribed=("unsubscribe", "unsubscribed"),
        subscribed="list_addition",
        replied="reply",
        inbound="inboundEmailProcessed",
    ),
    "soft_bounce": _gave_up("Brevo"),
    "hard_bounce": _bounced("Brevo", _BREVO_LIST),
    "invalid_email": _BREVO_ADDRESS,
    "blocked": _not_sent("Brevo", "{recipient} is blocked, for a bounce, a complaint or an unsubscribe", _BREVO_LIST),
    "error": _refused("Brevo", "could not process the message"),
}

MAILJET: Mapping[str, Advice] = {
    **_pick(
        "Mailjet",
        delivered="sent",
        deferred="greylisted",
        opened="open",
        clicked="click",
        complained="spam",
        unsubscribed="unsub",
    ),
    "bounce": Advice(
        "Mailjet does not try again. After a hard bounce it blocks {recipient}.",
        "If {recipient} is known to work, ask Mailjet to unblock it, and lift the entry here:",
        LIFT,
    ),
    "blocked": _not_sent(
        "Mailjet", "{recipient} is blocked, for a bounce or a complaint, or the content was refused", "Mailjet's blocks"
    ),
}

_SPARKPOST_LIST = "the suppression list in SparkPost"
SPARKPOST: Mapping[str, Advice] = {
    **_pick(
        "SparkPost",
        taken="injection",
        delivered="delivery",
        deferred="delay",
        opened=("open", "amp_open", "initial_open", "amp_initial_open"),
        clicked=("click", "amp_click"),
        complained="spam_complaint",
        unsubscribed=("list_unsubscribe", "link_unsubscribe"),
        inbound="relay_injection",
    ),
    "bounce": Advice(
        "SparkPost does not try again. If the bounce class is 10, 30 or 90, {recipient} is on its suppression list.",
        f"If {{recipient}} is known to work, remove it from {_SPARKPOST_LIST} and lift the entry here:",
        LIFT,
    ),
    "out_of_band": Advice(
        "The mail system of {domain} first took the message and later returned it.",
        f"If {{recipient}} is known to work, remove it from {_SPARKPOST_LIST} and lift the entry here:",
        LIFT,
    ),
    "policy_rejection": _not_sent(
        "SparkPost", "{recipient} is on its suppression list, or a policy forbids the message", _SPARKPOST_LIST
    ),
    "generation_rejection": _not_sent(
        "SparkPost", "a policy forbids the message that was made for {recipient}", _SPARKPOST_LIST
    ),
    "generation_failure": _refused("SparkPost", "could not make the message from its template"),
}

_MAILERSEND_LIST = "the suppressions of the domain in MailerSend"
MAILERSEND: Mapping[str, Advice] = {
    **_pick(
        "MailerSend",
        sent="activity.sent",
        delivered="activity.delivered",
        deferred="activity.deferred",
        opened=("activity.opened", "activity.opened_unique"),
        clicked=("activity.clicked", "activity.clicked_unique"),
        complained="activity.spam_complaint",
        unsubscribed="activity.unsubscribed",
    ),
    "activity.soft_bounced": _gave_up("MailerSend"),
    "activity.hard_bounced": _bounced("MailerSend", _MAILERSEND_LIST),
    "activity.suppressed": _not_sent("MailerSend", "{recipient} is suppressed", _MAILERSEND_LIST),
}

_MANDRILL_LIST = "the rejection denylist in Mandrill"
MANDRILL: Mapping[str, Advice] = {
    **_pick(
        "Mandrill",
        sent="send",
        delivered="delivered",
        deferred="deferral",
        opened="open",
        clicked="click",
        complained="spam",
        unsubscribed="unsub",
        inbound="inbound",
    ),
    "soft_bounce": _gave_up("Mandrill"),
    "hard_bounce": _bounced("Mandrill", _MANDRILL_LIST),
    "reject": _not_sent(
        "Mandrill", "{recipient} bounced, complained or unsubscribed before, or a rule forbids it", _MANDRILL_LIST
    ),
}

_MAILTRAP_LIST = "the suppressions in Mailtrap"
MAILTRAP: Mapping[str, Advice] = {
    **_pick(
        "Mailtrap",
        delivered="delivery",
        deferred="soft bounce",
        opened="open",
        clicked="click",
        complained="spam",
        unsubscribed="unsubscribe",
        inbound="inbound.message_received",
    ),
    "suspension": Advice(
        "Mailtrap has suspended sending for the domain or the account, and keeps the message.",
        "Read the reason, and answer Mailtrap's compliance team. Do not send the message again.",
    ),
    "bounce": _bounced("Mailtrap", _MAILTRAP_LIST),
    "reject": _not_sent("Mailtrap", "{recipient} is suppressed, or the account may not send it", _MAILTRAP_LIST),
}

UNISENDER: Mapping[str, Advice] = {
    **_pick(
        "Unisender Go",
        suppresses=False,
        sent="sent",
        delivered="delivered",
        deferred="soft_bounced",
        opened="opened",
        clicked="clicked",
        complained="spam",
        unsubscribed="unsubscribed",
        subscribed="subscribed",
    ),
    "hard_bounced": Advice(
        "Unisender Go does not try again. Its delivery status says whether {domain} refused the message, or whether "
        "Unisender Go did not send it, for spam (`err_spam_skipped`) or an unsubscribe (`err_unsubscribed`).",
        "If {recipient} is known to work, lift the entry here:",
        LIFT,
    ),
}

LETTERMINT: Mapping[str, Advice] = {
    **_pick(
        "Lettermint",
        suppresses=False,
        taken=("message.created", "message.released"),
        sent="message.sent",
        delivered="message.delivered",
        deferred="message.soft_bounced",
        opened="message.opened",
        clicked="message.clicked",
        complained="message.spam_complaint",
        unsubscribed="message.unsubscribed",
        inbound="message.inbound",
    ),
    **dict.fromkeys(
        ("message.scheduled", "message.rescheduled"),
        Advice(
            "Lettermint keeps the message until the time that it was scheduled for.",
            "Look again after that time:",
            LOOK_AGAIN,
        ),
    ),
    "message.canceled": Advice(
        "The message was canceled at Lettermint before it was sent.", "Send it again if that was not meant."
    ),
    "message.policy_rejected": _refused("Lettermint", "did not send the message, because of a policy"),
    "message.auto_replied": Advice(
        "The mailbox of {recipient} answered automatically, so the message reached it.",
        "Read the automatic reply: {recipient} may be away, or may have left.",
    ),
    "message.hard_bounced": _bounced("Lettermint"),
    "message.failed": _refused("Lettermint", "could not send the message"),
    "message.suppressed": _not_sent("Lettermint", "{recipient} is suppressed", "the suppressions in Lettermint"),
}

_EMAILIT_LIST = "the suppressions in Emailit"
_EMAILIT: Mapping[str, Advice] = {
    **_pick(
        "Emailit",
        taken="accepted",
        delivered="delivered",
        deferred="attempted",
        opened="loaded",
        clicked="clicked",
        complained="complained",
        unsubscribed="unsubscribed",
        inbound="received",
    ),
    "scheduled": Advice(
        "Emailit keeps the message until the time that it was scheduled for.", "Look again after that time:", LOOK_AGAIN
    ),
    "bounced": _bounced("Emailit", _EMAILIT_LIST),
    "failed": _refused("Emailit", "could not deliver the message, for the error that the reason names"),
    "rejected": _refused("Emailit", "took the message and then refused to send it"),
    "suppressed": _not_sent("Emailit", "{recipient} is suppressed", _EMAILIT_LIST),
}

AHASEND: Mapping[str, Advice] = {
    **_pick(
        "AhaSend",
        taken="message.reception",
        delivered="message.delivered",
        deferred="message.transient_error",
        opened="message.opened",
        clicked="message.clicked",
        inbound="message.routing",
    ),
    "message.failed": _gave_up("AhaSend"),
    "message.bounced": Advice(
        "AhaSend does not try again, and suppresses {recipient} for 30 days.",
        "If {recipient} is known to work, remove it from the suppressions in AhaSend and lift the entry here:",
        LIFT,
    ),
    "message.suppressed": _not_sent("AhaSend", "{recipient} is suppressed", "the suppressions in AhaSend"),
}

MAILPACE: Mapping[str, Advice] = {
    **_pick("MailPace", taken="email.queued", delivered="email.delivered", deferred="email.deferred"),
    "email.bounced": _bounced("MailPace"),
    "email.spam": Advice(
        "MailPace's own content check took the message for spam, and did not send it.",
        "Change the content, and check its links and attachments; then send again.",
    ),
}

_SMTP2GO_LIST = "the suppressions in SMTP2GO"
SMTP2GO: Mapping[str, Advice] = {
    **_pick(
        "SMTP2GO",
        suppresses=False,
        taken="processed",
        delivered="delivered",
        opened="open",
        clicked="click",
        complained="spam",
        unsubscribed="unsubscribe",
        subscribed="resubscribe",
    ),
    "bounce": Advice(
        "SMTP2GO does not try again. Its field `bounce` is `hard` or `soft`: after a soft one {recipient} was not "
        "refused.",
        f"If {{recipient}} is known to work, remove it from {_SMTP2GO_LIST} and lift the entry here:",
        LIFT,
    ),
    "reject": _not_sent("SMTP2GO", "{recipient} is suppressed, or the content was refused", _SMTP2GO_LIST),
}

_AZURE = "Azure Communication Services"
_AZURE_LIST = "the suppression list of the domain in Azure"
_AZURE_SPAM = Advice(
    "The message was taken for spam, bulk mail or phishing, and is not in the inbox of {recipient}.",
    "Change the content, check its links and the authentication of {sender_domain}; then send again.",
)
AZURE: Mapping[str, Advice] = {
    **_pick(_AZURE, delivered="Delivered", opened="view", clicked="click"),
    "Bounced": _bounced(_AZURE, _AZURE_LIST),
    "Failed": _refused(_AZURE, "could not send the message"),
    "Suppressed": _not_sent(_AZURE, "{recipient} bounced before and is suppressed", _AZURE_LIST),
    "Quarantined": _AZURE_SPAM,
    "FilteredSpam": _AZURE_SPAM,
}

_ELASTIC_ERROR = Advice(
    "Elastic Email does not try again. Its category says why: after `NoMailbox`, and after 7 bounces in a row, the "
    "contact is invalid for good. `Ignore`, `Suppressed` and `ManualCancel` mean that nothing was sent.",
    "If {recipient} is known to work, activate the contact in Elastic Email, and lift the entry here:",
    LIFT,
)
ELASTICEMAIL: Mapping[str, Advice] = {
    **_pick(
        "Elastic Email",
        suppresses=False,
        delivered=("Sent", "Success"),
        opened="Opened",
        clicked="Clicked",
        complained="AbuseReport",
        unsubscribed="Unsubscribed",
    ),
    "Error": _ELASTIC_ERROR,
    "Bounced": _ELASTIC_ERROR,
}

_CLOUDFLARE = "Cloudflare Email Service"
_CLOUDFLARE_ROWS: Mapping[str, Advice] = {
    **_pick(_CLOUDFLARE, suppresses=False, delivered="delivered", deferred="deferred", complained="complained"),
    "bounced": _bounced(_CLOUDFLARE),
    "failed": _gave_up(_CLOUDFLARE),
    "rejected": _refused(_CLOUDFLARE, "did not send the message"),
}

KUMOMTA: Mapping[str, Advice] = {
    **_pick(
        "KumoMTA",
        suppresses=False,
        taken="Reception",
        delivered="Delivery",
        deferred=("TransientFailure", "Delayed"),
        complained="Feedback",
    ),
    "Bounce": _bounced("KumoMTA"),
    "OOB": Advice(
        "The mail system of {domain} first took the message and later returned it.",
        "If {recipient} is known to work, lift the entry here:",
        LIFT,
    ),
    "Expiration": _gave_up("KumoMTA"),
    "AdminBounce": Advice(
        "An administrator of your KumoMTA removed the message from the queue. This says nothing about {recipient}.",
        "Ask the administrator why, then send again:",
        _TRACE,
    ),
    "Rejection": _refused("KumoMTA", "did not take the message"),
}

_SCALEWAY_LIST = "the blocklist in Scaleway"
SCALEWAY: Mapping[str, Advice] = {
    **_pick("Scaleway", taken="email_queued", delivered="email_delivered", deferred="email_deferred"),
    "email_dropped": _bounced("Scaleway"),
    "email_mailbox_not_found": _bounced("Scaleway", _SCALEWAY_LIST),
    "email_spam": Advice(
        "The mail system of {domain} took the message for spam and refused it. Nobody complained.",
        "Change the content, and check its links and the authentication of {sender_domain}; then send again.",
    ),
    "email_blocklisted": _not_sent("Scaleway", "{recipient} is on its blocklist", _SCALEWAY_LIST),
}

ROWS: Mapping[str, Mapping[str, Advice]] = {
    "mailchannels": MAILCHANNELS,
    "ark": POSTAL,
    "postal": POSTAL,
    "cloudmailin": {
        **CLOUDMAILIN,
        # Kinds that the documentation named before.
        "process": CLOUDMAILIN["registration"],
        "dispatch_bounce": CLOUDMAILIN["bounce"],
        "blocked": CLOUDMAILIN["suppressed"],
        "spamd": CLOUDMAILIN["suppressed"],
        "rate_limited": CLOUDMAILIN["rate_limit"],
        "complaint": MAILCHANNELS["complained"],
    },
    "mailwebhook": MAILWEBHOOK,
    "ses": SES,
    "sendgrid": SENDGRID,
    "postmark": POSTMARK,
    "resend": RESEND,
    "mailgun": MAILGUN,
    "brevo": {
        **BREVO,
        # As the API that creates webhooks writes them.
        "hardbounce": BREVO["hard_bounce"],
        "softbounce": BREVO["soft_bounce"],
        "uniqueopened": BREVO["opened"],
        "invalid": BREVO["invalid_email"],
        "proxyopen": BREVO["opened"],
        "uniqueproxyopen": BREVO["opened"],
        "listaddition": BREVO["list_addition"],
    },
    "mailjet": MAILJET,
    "sparkpost": SPARKPOST,
    "mailersend": MAILERSEND,
    "mandrill": MANDRILL,
    "mailtrap": MAILTRAP,
    "unisender": UNISENDER,
    "lettermint": LETTERMINT,
    "emailit": {f"{prefix}{word}": row for prefix in ("", "email.") for word, row in _EMAILIT.items()},
    "ahasend": AHASEND,
    "mailpace": MAILPACE,
    "smtp2go": SMTP2GO,
    "azure": AZURE,
    "elasticemail": ELASTICEMAIL,
    "cloudflare": {f"cf.email.sending.message.{word}": row for word, row in _CLOUDFLARE_ROWS.items()},
    "kumomta": KUMOMTA,
    "scaleway": SCALEWAY,
    # A `generic` source has the words of its mapping, and senders of Standard Webhooks have none in common: the status
    # says what an event means.
}
"""The rows of each provider, by its own words: as it writes them, or in lower case.

`word/status` is the row of a word that leads to several statuses, for that one.
"""
