"""The little of OTLP's answers that a sender must read: rejected items, when to come back, and why.

Sources: OTLP specification (partial success, throttling), google.rpc.Status and RetryInfo.
"""

from gateway.delivery.senders.outcome import Delivered
from gateway.delivery.senders.wire import fields, integer, submessage

_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"


def delivered(response: bytes) -> Delivered:
    """What an Export response says: `partial_success.rejected_*`, which is 0 if it is unset or not readable."""
    partial_success = submessage(response, 1)
    return Delivered(max(0, integer(partial_success, 1)), detail=_text(submessage(partial_success, 2)))


def retry_delay_s(status: bytes) -> float | None:
    """The RetryInfo in a google.rpc.Status, in seconds; None: there is none."""
    for number, detail in fields(status):
        if number == 3 and isinstance(detail, bytes) and submessage(detail, 1) == _RETRY_INFO:
            delay = submessage(submessage(detail, 2), 1)
            return max(0.0, integer(delay, 1) + integer(delay, 2) / 1e9)
    return None


def status_message(status: bytes) -> str:
    """`message` of a google.rpc.Status; what is not one, as it is."""
    return _text(submessage(status, 2)) or _text(status)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
