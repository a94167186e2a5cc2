"""The little of OTLP's answers that a sender must read: rejected items, and when to come back.

Read by hand, so that the daemon needs no generated protobuf classes. Sources: OTLP specification (partial success,
throttling), google.rpc.Status and RetryInfo.
"""

from collections.abc import Iterator

_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"


def rejected_items(response: bytes) -> int:
    """`partial_success.rejected_*` of an Export response; 0 if it is unset, or the response is not readable."""
    return max(0, _signed(_integer(_message(response, 1), 1)))


def retry_delay_s(status: bytes) -> float | None:
    """The RetryInfo in a google.rpc.Status, in seconds; None: there is none."""
    for number, detail in _fields(status):
        if number == 3 and isinstance(detail, bytes) and _message(detail, 1) == _RETRY_INFO:
            delay = _message(_message(detail, 2), 1)
            return max(0.0, _signed(_integer(delay, 1)) + _signed(_integer(delay, 2)) / 1e9)
    return None


def _signed(value: int) -> int:
    """An int64 as the varint means it: negative ones are two's complement."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _message(message: bytes, wanted: int) -> bytes:
    return next((value for number, value in _fields(message) if number == wanted and isinstance(value, bytes)), b"")


def _integer(message: bytes, wanted: int) -> int:
    return next((value for number, value in _fields(message) if number == wanted and isinstance(value, int)), 0)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Varint and length-delimited fields; stops where the message stops making sense."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        if tag & 7 == 0:
            value, position = _varint(message, position)
            yield tag >> 3, value
        elif tag & 7 == 2:
            length, position = _varint(message, position)
            yield tag >> 3, message[position : position + length]
            position += length
        elif tag & 7 in (1, 5):
            position += 8 if tag & 7 == 1 else 4
        else:
            return


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message) and shift < 70:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return value, position
