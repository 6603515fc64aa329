"""The APIs of Amazon SES and SNS, for one account in one region, at one address.

Written from Amazon's API references of SES v2 and SNS, and from "Create a signed AWS API request".
"""

import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import escape

from simulator.deliveries import DeliveryLog
from simulator.providers.api.account import Account
from simulator.providers.api.routes import RefusedError, Route, is_endpoint, json_response, read_number, read_object
from simulator.providers.ses.webhooks import Ses
from simulator.serving import Call, Response

_BAD = HTTPStatus.BAD_REQUEST
_CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<scope>(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[a-z]+)/"
    r"aws4_request), ?SignedHeaders=(?P<headers>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_MAX_SKEW_SECONDS = 300
_PENDING = "PendingConfirmation"
_XMLNS = "http://sns.amazonaws.com/doc/2010-03-31/"


class SesAccount(Account):
    """An account with one topic. Subscriptions are confirmed when `confirm` is called."""

    BASE = "/aws"  # the real ones have a host each, but here one host plays many providers
    REGION = "eu-central-1"
    dialect: Ses

    def __init__(self, dialect: Ses) -> None:
        super().__init__(dialect, DeliveryLog(self._webhook_of))
        self.subscriptions: dict[str, dict[str, str]] = {}
        self._entries: dict[str, dict[str, Any]] = {}
        self._lock = Lock()

    def enrol(self, url: str) -> str:
        """Return the ARN of a confirmed subscription."""
        arn = self._subscribe(url)
        self.confirm(url)
        return arn

    def confirm(self, url: str) -> None:
        """Confirm the subscription of this URL, as a call of ConfirmSubscription does."""
        with self._lock:
            for subscription in self.subscriptions.values():
                if subscription["Endpoint"] == url:
                    subscription["Pending"] = ""

    def _webhook_of(self, url: str) -> str | None:
        return next((arn for arn, one in self.subscriptions.items() if one["Endpoint"] == url), None)

    def put(self, address: str, reason: str = "BOUNCE") -> None:
        """Put an address on the suppression list, as SES does after a bounce or complaint."""
        with self._lock:
            entry = {"EmailAddress": address, "Reason": reason, "LastUpdateTime": datetime.now(UTC).timestamp()}
            self._entries[address.lower()] = entry

    def suppressed(self) -> Mapping[str, str]:
        """Return the addresses on the list with their reasons."""
        with self._lock:
            return {entry["EmailAddress"]: entry["Reason"] for entry in self._entries.values()}

    def _routes(self) -> Sequence[Route]:
        addresses = "/v2/email/suppression/addresses"
        return (
            Route("GET", addresses, self._list),
            Route("PUT", addresses, self._add),
            Route("DELETE", f"{addresses}/{{address}}", self._remove),
            Route("POST", "/", self._act),
        )

    def _locate(self, path: str) -> str:
        return path

    def _admit(self, call: Call, path: str) -> None:
        given = _CREDENTIAL.fullmatch(call.headers.get("authorization", ""))
        if given is None:
            raise RefusedError(HTTPStatus.FORBIDDEN, "MissingAuthenticationTokenException")
        service = "sns" if path == "/" else "ses"
        expected = (self.dialect.access_key_id, self.REGION, service)
        if (given["key"], given["region"], given["service"]) != expected:
            raise RefusedError(HTTPStatus.FORBIDDEN, "UnrecognizedClientException")
        at = datetime.strptime(call.headers.get("x-amz-date", ""), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs((datetime.now(UTC) - at).total_seconds()) > _MAX_SKEW_SECONDS or not {
            "host",
            "x-amz-date",
        } <= set(given["headers"].split(";")):
            raise RefusedError(HTTPStatus.FORBIDDEN, "SignatureDoesNotMatch")
        if not hmac.compare_digest(_signature(call, given, self.dialect.secret_access_key), given["signature"]):
            raise RefusedError(HTTPStatus.FORBIDDEN, "SignatureDoesNotMatch")

    def _refusal(self, refused: RefusedError) -> Response:
        return json_response(refused.status, {"message": str(refused)}, refused.headers)

    def _list(self, call: Call) -> Response:
        size = read_number(call.query, "PageSize", 100, range(1, 1001), _BAD)
        first = read_number(call.query, "NextToken", 0, range(1 << 31), _BAD)
        with self._lock:
            entries = list(self._entries.values())
        page: dict[str, Any] = {"SuppressedDestinationSummaries": entries[first : first + size]}
        if first + size < len(entries):
            page["NextToken"] = str(first + size)
        return json_response(HTTPStatus.OK, page)

    def _add(self, call: Call) -> Response:
        given = read_object(call, _BAD)
        address, reason = given.get("EmailAddress"), given.get("Reason")
        if not isinstance(address, str) or "@" not in address or reason not in ("BOUNCE", "COMPLAINT"):
            raise RefusedError(_BAD, "BadRequestException")
        self.put(address, reason)
        return json_response(HTTPStatus.OK, {})

    def _remove(self, _call: Call, address: str) -> Response:
        with self._lock:
            if self._entries.pop(address.lower(), None) is None:
                raise RefusedError(HTTPStatus.NOT_FOUND, "NotFoundException")
        return json_response(HTTPStatus.OK, {})

    def _act(self, call: Call) -> Response:
        """Return an action of SNS, whose parameters are a form, and whose answer is XML."""
        given = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
        if given.get("Version") != "2010-03-31":
            raise RefusedError(_BAD, "InvalidAction")
        if given.get("Action") == "ListSubscriptionsByTopic" and given.get("TopicArn") == self.dialect.ARN:
            return self._list_subscriptions(int(given.get("NextToken", "0")))
        if given.get("Action") == "Subscribe" and given.get("TopicArn") == self.dialect.ARN:
            url = given.get("Endpoint", "")
            if not is_endpoint(url) or given.get("Protocol") != urlsplit(url).scheme:
                raise RefusedError(_BAD, "InvalidParameter")
            self._subscribe(url)
            return _xml("Subscribe", "<SubscriptionArn>pending confirmation</SubscriptionArn>")
        if given.get("Action") == "Unsubscribe":
            with self._lock:
                if self.subscriptions.pop(given.get("SubscriptionArn", ""), None) is None:
                    raise RefusedError(HTTPStatus.NOT_FOUND, "NotFound")
            return _xml("Unsubscribe", "")
        raise RefusedError(HTTPStatus.NOT_FOUND, "NotFound")

    def _subscribe(self, url: str) -> str:
        known = self._webhook_of(url)
        if known:
            return known
        arn = f"{self.dialect.ARN}:{uuid.uuid4()}"
        with self._lock:
            self.subscriptions[arn] = {"Endpoint": url, "Protocol": urlsplit(url).scheme, "Pending": "yes"}
        return arn

    def _list_subscriptions(self, first: int) -> Response:
        size = 100
        with self._lock:
            all_of_them = list(self.subscriptions.items())
        members = [
            f"<member><TopicArn>{self.dialect.ARN}</TopicArn><Protocol>{one['Protocol']}</Protocol><SubscriptionArn>"
            f"{_PENDING if one['Pending'] else arn}</SubscriptionArn><Owner>123456789012</Owner><Endpoint>"
            f"{escape(one['Endpoint'])}</Endpoint></member>"
            for arn, one in all_of_them[first : first + size]
        ]
        following = f"<NextToken>{first + size}</NextToken>" if first + size < len(all_of_them) else ""
        return _xml("ListSubscriptionsByTopic", f"<Subscriptions>{''.join(members)}</Subscriptions>{following}")


def _signature(call: Call, given: re.Match[str], secret: str) -> str:
    """Return the signature that the request should have."""
    target = urlsplit(call.target)
    pairs = [pair.partition("=") for pair in target.query.split("&") if pair]
    query = "&".join(sorted(f"{name}={value}" for name, _, value in pairs))
    canonical = [call.method, quote(target.path, safe="/-_.~"), query]
    canonical += [f"{name}:{' '.join(call.headers.get(name, '').split())}" for name in given["headers"].split(";")]
    canonical += ["", given["headers"], hashlib.sha256(call.body).hexdigest()]
    hashed = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", call.headers["x-amz-date"], given["scope"], hashed))
    key = f"AWS4{secret}".encode()
    for part in given["scope"].split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def _xml(action: str, result: str) -> Response:
    content = (
        f'<{action}Response xmlns="{_XMLNS}"><{action}Result>{result}</{action}Result><ResponseMetadata><RequestId>'
        f"{uuid.uuid4()}</RequestId></ResponseMetadata></{action}Response>"
    )
    return Response(status=HTTPStatus.OK, content=content.encode(), headers={"Content-Type": "text/xml"})
