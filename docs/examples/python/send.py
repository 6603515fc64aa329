"""Check who may get mail, send it, and announce what was sent.

TIDINGS_KEY=… python send.py SOURCE SENDER RECIPIENT…
"""

import secrets
import sys

from tidings import call


def send_by_provider(sender: str, recipients: list[str]) -> str:
    """Stand in for the provider's API, and return the id that its answer contains. Put your own call here."""
    print(f"sent from {sender} to {', '.join(recipients)}")
    return secrets.token_urlsafe(20)


def main(source: str, sender: str, recipients: list[str]) -> None:
    """Send one message to those who are not suppressed."""
    # One request for all recipients, up to 10,000. The results are in the order of the addresses.
    checked = call("POST", "/v1/suppressions/check", {"addresses": recipients, "type": "transactional"})["results"]
    for result in checked:
        if result["suppressed"]:
            print(f"not sent to {result['address']}: {result['reason']}")
    allowed = [result["address"] for result in checked if not result["suppressed"]]
    if not allowed:
        return
    request_id = send_by_provider(sender, allowed)
    # Announced sends of which the provider reports nothing raise an alert. Repeating an announcement does no harm,
    # so repeat it when the answer was lost.
    message = call(
        "POST",
        "/v1/messages",
        {"source": source, "request_id": request_id, "sender": sender, "recipients": allowed},
    )
    print(f"announced {message['id']}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
