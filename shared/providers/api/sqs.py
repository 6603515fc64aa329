"""The queues of Amazon SQS, by its JSON protocol.

Source: Amazon's API reference of SQS (ReceiveMessage, DeleteMessageBatch, ChangeMessageVisibilityBatch,
GetQueueAttributes). SQS delivers a message at least once, and again unless it is deleted within its visibility timeout.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pycurl

from shared.http import aws_signature
from shared.http import client as http_client
from shared.http.aws_signature import AccessKey
from shared.http.client import OutboundError, Response
from shared.providers.api.base import ApiErrorKind, ProviderApiError
from shared.providers.api.client import quote
from shared.providers.webhooks.base import QueueSettings

BATCH: Final = 10
"""Messages that one call may receive, delete or change."""
_MAX_BYTES: Final = 32 * 1024 * 1024  # ten messages of 1 MiB, escaped
_TIMEOUT_SECONDS: Final = 10.0
_OK: Final = 200
_GONE: Final = frozenset({"QueueDoesNotExist", "NonExistentQueue", "QueueDeletedRecently"})
_DENIED: Final = frozenset(
    {
        *("AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "UnrecognizedClientException"),
        *("SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature", "ExpiredToken"),
        *("ExpiredTokenException", "MissingAuthenticationToken", "OptInRequired", "InvalidAccessKeyId", "AuthFailure"),
    }
)
_THROTTLED: Final = frozenset({"RequestThrottled", "ThrottlingException", "OverLimit"})
_SERVER_ERRORS: Final = range(500, 600)


class Message(msgspec.Struct, rename="pascal"):
    """A message as SQS gives it. `receipt_handle` is what this delivery of it is deleted by."""

    message_id: str
    receipt_handle: str
    body: str
    attributes: Mapping[str, str] = {}

    def queued_at(self, now: datetime) -> datetime:
        """Return when the queue got it; `now` if the service does not say."""
        try:
            return datetime.fromtimestamp(int(self.attributes.get("SentTimestamp", "")) / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            return now

    @property
    def deliveries(self) -> int:
        """Return how many times it was delivered, with this one."""
        try:
            return int(self.attributes.get("ApproximateReceiveCount", ""))
        except ValueError:
            return 1


class _Received(msgspec.Struct, rename="pascal"):
    messages: list[Message] = []


class SqsClient:
    """A client of one queue, for the source `slug`. One thread at a time uses it. Every method raises ProviderApiError.

    It keeps its connection open. `is_stopping` is asked about every second, and ends a call.
    """

    def __init__(
        self, slug: str, queue: QueueSettings, key: AccessKey, is_stopping: Callable[[], bool] | None = None
    ) -> None:
        self.queue = queue
        self._slug = slug
        self._key = key
        self._is_stopping = is_stopping
        self._handle = pycurl.Curl()

    def close(self) -> None:
        """Close the connection."""
        self._handle.close()

    def receive(self, *, wait_seconds: int, visibility_seconds: int) -> Sequence[Message]:
        """Return up to ten messages; wait for the first. Others do not get them for `visibility_seconds`."""
        answer = self._call(
            "ReceiveMessage",
            {
                "MaxNumberOfMessages": BATCH,
                "WaitTimeSeconds": wait_seconds,
                "VisibilityTimeout": visibility_seconds,
                "MessageSystemAttributeNames": ["SentTimestamp", "ApproximateReceiveCount"],
            },
            timeout_seconds=wait_seconds + _TIMEOUT_SECONDS,
        )
        received: _Received = self._read("ReceiveMessage", answer, _Received)
        return received.messages

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete up to ten messages."""
        self._change_batch("DeleteMessageBatch", [{"ReceiptHandle": one.receipt_handle} for one in messages])

    def hide(self, messages: Mapping[str, int]) -> None:
        """Deliver up to ten messages again after these seconds, each by its receipt handle."""
        entries = [{"ReceiptHandle": handle, "VisibilityTimeout": seconds} for handle, seconds in messages.items()]
        self._change_batch("ChangeMessageVisibilityBatch", entries)

    def describe(self) -> Mapping[str, str]:
        """Return the attributes of the queue: the messages that wait and are in flight, and its redrive policy."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "RedrivePolicy"]
        answer = self._call("GetQueueAttributes", {"AttributeNames": names})
        attributes: Mapping[str, str] = self._read("GetQueueAttributes", answer, dict[str, Any]).get("Attributes", {})
        return attributes

    def _change_batch(self, operation: str, entries: Sequence[Mapping[str, Any]]) -> None:
        if not entries:
            return
        numbered = [{"Id": str(number), **entry} for number, entry in enumerate(entries)]
        answer = self._read(operation, self._call(operation, {"Entries": numbered}), dict[str, Any])
        if failed := answer.get("Failed"):
            message = f"Amazon SQS did not do {operation} for {len(failed)} of {len(entries)} messages of {self._slug}"
            raise ProviderApiError(f"{message}: {failed[0].get('Code')} {failed[0].get('Message', '')}".rstrip())

    def _read(self, operation: str, answer: Response, type_: Any) -> Any:
        try:
            return msgspec.json.decode(answer.body, type=type_)
        except msgspec.MsgspecError as error:
            raise ProviderApiError(
                f"The queue of {self._slug} sent an unreadable answer to {operation} ({error}): {quote(answer.body)}",
                ApiErrorKind.UNREACHABLE,
            ) from None

    def _call(
        self, operation: str, parameters: Mapping[str, Any], timeout_seconds: float = _TIMEOUT_SECONDS
    ) -> Response:
        body = msgspec.json.encode({"QueueUrl": self.queue.url, **parameters})
        headers = aws_signature.sign(
            "POST",
            self.queue.endpoint_url,
            {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{operation}"},
            body,
            self._key,
            region=self.queue.region,
            service="sqs",
            now=datetime.now(UTC),
        )
        try:
            answer = http_client.call(
                "POST",
                self.queue.endpoint_url,
                headers=headers,
                body=body,
                timeout_seconds=timeout_seconds,
                max_bytes=_MAX_BYTES,
                handle=self._handle,
                is_abandoned=self._is_stopping,
            )
        except OutboundError as error:
            raise ProviderApiError(
                f"The queue of {self._slug} did not answer {operation}: {error}", ApiErrorKind.UNREACHABLE
            ) from None
        if answer.status != _OK:
            raise self._explain(operation, answer)
        return answer

    def _explain(self, operation: str, answer: Response) -> ProviderApiError:
        try:
            document = msgspec.json.decode(answer.body)
        except msgspec.MsgspecError:
            document = None
        found = document if isinstance(document, dict) else {}
        code = str(found.get("__type") or "").rpartition("#")[2]
        said = quote(str(found.get("message") or found.get("Message") or "").encode()) if found else quote(answer.body)
        answered = f"({operation} was answered with {answer.status} {code}: {said})".replace(" :", ":")
        if code in _GONE:
            sentence = (
                f"There is no queue {self.queue.url} in {self.queue.region}: correct settings.queue of {self._slug}"
            )
            return ProviderApiError(f"{sentence} {answered}", ApiErrorKind.GONE, status=answer.status)
        if code in _THROTTLED or answer.status in _SERVER_ERRORS:
            kind = ApiErrorKind.RATE_LIMITED if code in _THROTTLED else ApiErrorKind.UNREACHABLE
            sentence = f"Amazon SQS could not answer for {self._slug}"
            return ProviderApiError(f"{sentence} {answered}", kind, status=answer.status)
        if code in _DENIED or answer.status in {401, 403}:
            right = f"sqs:{operation.removesuffix('Batch')}"  # no permission is specific to batches
            sentence = (
                f"Amazon SQS rejected the access key of {self._slug}. Allow its user {right} on the queue, or set "
                f'another key: tidings sources rotate {self._slug} --credentials \'{{"access_key_id": …, '
                '"secret_access_key": …}\''
            )
            return ProviderApiError(f"{sentence} {answered}", ApiErrorKind.DENIED, status=answer.status)
        return ProviderApiError(f"Amazon SQS refused {operation} for {self._slug} {answered}", status=answer.status)
