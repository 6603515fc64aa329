"""Every simulated provider. A new one is a folder here and a row below."""

from collections.abc import Mapping

from simulator.providers.ahasend import AhaSend
from simulator.providers.api.account import Account
from simulator.providers.ark.api import ArkAccount
from simulator.providers.ark.webhooks import Ark
from simulator.providers.azure import Azure
from simulator.providers.base import Dialect
from simulator.providers.brevo import Brevo
from simulator.providers.cloudflare import Cloudflare
from simulator.providers.cloudmailin.webhooks import CloudMailin
from simulator.providers.elasticemail import ElasticEmail
from simulator.providers.emailit import Emailit
from simulator.providers.generic.webhooks import Acme
from simulator.providers.kumomta import KumoMta
from simulator.providers.lettermint import Lettermint
from simulator.providers.mailchannels.api import MailChannelsAccount
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.providers.mailersend import MailerSend
from simulator.providers.mailgun.api import MailgunAccount
from simulator.providers.mailgun.webhooks import Mailgun
from simulator.providers.mailjet import Mailjet
from simulator.providers.mailpace import MailPace
from simulator.providers.mailtrap import Mailtrap
from simulator.providers.mailwebhook.webhooks import MailWebhook
from simulator.providers.mandrill import Mandrill
from simulator.providers.postal.webhooks import Postal
from simulator.providers.postmark.api import PostmarkAccount
from simulator.providers.postmark.webhooks import Postmark
from simulator.providers.resend.api import ResendAccount
from simulator.providers.resend.webhooks import Resend
from simulator.providers.scaleway import Scaleway
from simulator.providers.sendgrid.api import SendGridAccount
from simulator.providers.sendgrid.webhooks import SendGrid
from simulator.providers.ses.api import SesAccount
from simulator.providers.ses.webhooks import Ses
from simulator.providers.smtp2go import Smtp2go
from simulator.providers.sparkpost.api import SparkPostAccount
from simulator.providers.sparkpost.webhooks import SparkPost
from simulator.providers.standardwebhooks.webhooks import Generic
from simulator.providers.unisender import Unisender

DIALECTS: Mapping[str, type[Dialect]] = {
    dialect.NAME: dialect
    for dialect in (
        MailChannels,
        Ark,
        Postal,
        CloudMailin,
        MailWebhook,
        Ses,
        SendGrid,
        Postmark,
        Resend,
        Generic,
        Mailgun,
        Brevo,
        Mailjet,
        SparkPost,
        MailerSend,
        Mandrill,
        Mailtrap,
        Unisender,
        Lettermint,
        Emailit,
        AhaSend,
        MailPace,
        Smtp2go,
        Azure,
        ElasticEmail,
        Cloudflare,
        KumoMta,
        Scaleway,
        Acme,
    )
}


def open_account(dialect: Dialect) -> Account | None:
    """Return the account that the dialect sends for; None where the provider has no management API."""
    if isinstance(dialect, MailChannels):
        return MailChannelsAccount(dialect)
    if isinstance(dialect, Ark):
        return ArkAccount(dialect)
    if isinstance(dialect, Postmark):
        return PostmarkAccount(dialect)
    if isinstance(dialect, Mailgun):
        return MailgunAccount(dialect)
    if isinstance(dialect, Resend):
        return ResendAccount(dialect)
    if isinstance(dialect, SendGrid):
        return SendGridAccount(dialect)
    if isinstance(dialect, Ses) and not isinstance(dialect, Scaleway):
        return SesAccount(dialect)
    if isinstance(dialect, SparkPost):
        return SparkPostAccount(dialect)
    return None
