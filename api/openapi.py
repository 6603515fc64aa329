"""The OpenAPI document: what clients are generated from. The schemas of the resources are completed here."""

from collections.abc import Mapping
from typing import Any, Final

from api import webhooks
from api.core.fields import OPTIONAL_MARK

OPERATIONS: Final[Mapping[str, str]] = {
    "GET /v1/sources": "listSources",
    "POST /v1/sources": "createSource",
    "GET /v1/sources/{slug}": "getSource",
    "PATCH /v1/sources/{slug}": "updateSource",
    "DELETE /v1/sources/{slug}": "deleteSource",
    "GET /v1/sources/{slug}/reconciliation": "getReconciliation",
    "GET /v1/sources/{slug}/failed-deliveries": "listFailedDeliveries",
    "GET /v1/sources/{slug}/webhooks": "listProviderWebhooks",
    "POST /v1/sources/{slug}/enrol": "enrolSource",
    "POST /v1/sources/{slug}/unenrol": "unenrolSource",
    "POST /v1/sources/{slug}/validate": "validateSource",
    "POST /v1/sources/{slug}/reconcile": "reconcileSource",
    "POST /v1/sources/{slug}/suppressions/push": "pushSuppressions",
    "POST /v1/sources/{slug}/suppressions/pull": "pullSuppressions",
    "GET /v1/receipts": "listReceipts",
    "GET /v1/receipts/{receipt_id}": "getReceipt",
    "GET /v1/receipts/{receipt_id}/raw": "getReceiptBody",
    "POST /v1/receipts/{receipt_id}/reprocess": "reprocessReceipt",
    "POST /v1/receipts/reprocess": "reprocessReceipts",
    "GET /v1/refusals": "listRefusals",
    "GET /v1/messages": "listMessages",
    "POST /v1/messages": "announceMessage",
    "GET /v1/messages/export": "exportMessages",
    "POST /v1/messages/bulk": "announceMessages",
    "GET /v1/messages/{message_id}": "getMessage",
    "GET /v1/messages/{message_id}/recipients": "listMessageRecipients",
    "GET /v1/messages/{message_id}/events": "listMessageEvents",
    "GET /v1/messages/{message_id}/report": "getMessageReport",
    "POST /v1/messages/{message_id}/answers": "recordAnswers",
    "GET /v1/diagnosis": "diagnoseMessages",
    "GET /v1/events": "listEvents",
    "GET /v1/events/{event_id}": "getEvent",
    "GET /v1/changes": "listChanges",
    "GET /v1/changes/stream": "streamChanges",
    "GET /v1/subscriptions": "listSubscriptions",
    "POST /v1/subscriptions": "createSubscription",
    "GET /v1/subscriptions/{subscription_id}": "getSubscription",
    "PATCH /v1/subscriptions/{subscription_id}": "updateSubscription",
    "DELETE /v1/subscriptions/{subscription_id}": "deleteSubscription",
    "POST /v1/subscriptions/{subscription_id}/rotate-secret": "rotateSubscriptionSecret",
    "POST /v1/subscriptions/{subscription_id}/pause": "pauseSubscription",
    "POST /v1/subscriptions/{subscription_id}/resume": "resumeSubscription",
    "POST /v1/subscriptions/{subscription_id}/test": "testSubscription",
    "POST /v1/subscriptions/{subscription_id}/recover": "recoverSubscription",
    "GET /v1/deliveries": "listDeliveries",
    "POST /v1/deliveries/replay": "replayDeliveries",
    "GET /v1/deliveries/{delivery_id}": "getDelivery",
    "GET /v1/deliveries/{delivery_id}/attempts": "listDeliveryAttempts",
    "POST /v1/deliveries/{delivery_id}/replay": "replayDelivery",
    "GET /v1/suppressions": "listSuppressions",
    "POST /v1/suppressions": "createSuppression",
    "DELETE /v1/suppressions": "deleteDomainSuppression",
    "GET /v1/suppressions/{address}": "getSuppression",
    "DELETE /v1/suppressions/{address}": "deleteSuppression",
    "POST /v1/suppressions/check": "checkSuppressions",
    "POST /v1/suppressions/import": "importSuppressions",
    "POST /v1/suppressions/export": "exportSuppressions",
    "POST /v1/erasures": "createErasure",
    "GET /v1/alerts": "listAlerts",
    "GET /v1/alerts/{alert_id}": "getAlert",
    "POST /v1/alerts/{alert_id}/ack": "acknowledgeAlert",
    "POST /v1/alerts/{alert_id}/mute": "muteAlert",
    "POST /v1/alerts/{alert_id}/unmute": "unmuteAlert",
    "GET /v1/alert-rules": "listAlertRules",
    "POST /v1/alert-rules": "createAlertRule",
    "GET /v1/alert-rules/{name}": "getAlertRule",
    "PUT /v1/alert-rules/{name}": "replaceAlertRule",
    "PATCH /v1/alert-rules/{name}": "updateAlertRule",
    "DELETE /v1/alert-rules/{name}": "deleteAlertRule",
    "GET /v1/alert-channels": "listAlertChannels",
    "POST /v1/alert-channels": "createAlertChannel",
    "GET /v1/alert-channels/{name}": "getAlertChannel",
    "PATCH /v1/alert-channels/{name}": "updateAlertChannel",
    "DELETE /v1/alert-channels/{name}": "deleteAlertChannel",
    "POST /v1/alert-channels/{name}/test": "testAlertChannel",
    "POST /v1/alert-channels/{name}/rotate-secret": "rotateAlertChannelSecret",
    "GET /v1/jobs": "listJobs",
    "GET /v1/jobs/{job_id}": "getJob",
    "POST /v1/jobs/{job_id}/cancel": "cancelJob",
    "GET /v1/jobs/{job_id}/file": "getJobFile",
    "GET /v1/keys": "listKeys",
    "POST /v1/keys": "createKey",
    "DELETE /v1/keys/{key_id}": "revokeKey",
    "GET /v1/users": "listUsers",
    "POST /v1/users": "createUser",
    "PATCH /v1/users/{user_id}": "updateUser",
    "POST /v1/users/{user_id}/link": "createUserLink",
    "GET /v1/sessions": "listSessions",
    "DELETE /v1/sessions/{session_id}": "endSession",
    "GET /v1/audit": "listAuditEntries",
    "GET /v1/stats": "getStatistics",
    "GET /v1/stats/series": "getSeries",
    "GET /v1/status": "getStatus",
    "GET /v1/doctor": "checkInstallation",
    "GET /v1/settings": "getSettings",
}
"""The name of each operation. Clients call functions of these names, so they stay."""

_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete"})
_OF_PROBLEM: Final = ("type", "title", "status", "detail")


def complete(document: dict[str, Any]) -> None:
    """Name the operations, mark the fields of answers that are always present, and add the webhooks.

    Raises KeyError for an operation that has no name.
    """
    schemas = document["components"]["schemas"]
    answered = set[str]()
    _collect_schemas(document["components"]["responses"], schemas, answered)
    for path, methods in document["paths"].items():
        for method in _METHODS & methods.keys():
            methods[method]["operationId"] = OPERATIONS[f"{method.upper()} {path}"]
            _collect_schemas(methods[method]["responses"], schemas, answered)
    # A rule has only the fields of its kind that are set.
    for name in sorted(name for name in answered if not name.endswith("Rule")):
        fields = schemas[name].get("properties", {})
        required = [field for field, schema in fields.items() if not schema.pop(OPTIONAL_MARK, False)]
        if name in ("Problem", "Gone"):
            required = [field for field in required if field in _OF_PROBLEM]
        if required:
            schemas[name]["required"] = required
    webhooks.describe(document)


def _collect_schemas(part: Any, schemas: Mapping[str, Any], found: set[str]) -> None:
    """Add the names of the schemas that a part of the document refers to, and those that these refer to."""
    if isinstance(part, list):
        for entry in part:
            _collect_schemas(entry, schemas, found)
    elif isinstance(part, dict):
        reference = part.get("$ref")
        name = reference.rpartition("/")[2] if isinstance(reference, str) and "/schemas/" in reference else None
        if name is not None and name not in found:
            found.add(name)
            _collect_schemas(schemas[name], schemas, found)
        for entry in part.values():
            _collect_schemas(entry, schemas, found)
