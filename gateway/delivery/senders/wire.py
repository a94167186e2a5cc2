"""The little of protobuf that a sender must read, by hand, so that the daemon needs no generated classes.

Nothing here raises: a message that stops making sense ends there. Source: Protocol Buffers, encoding.
"""

from collections.abc import Iterator


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of varint and length-delimited fields; stops where the message stops making sense."""
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


def submessage(message: bytes, wanted: int) -> bytes:
    """The first length-delimited field of that number; empty if there is none."""
    return next((value for number, value in fields(message) if number == wanted and isinstance(value, bytes)), b"")


def integer(message: bytes, wanted: int) -> int:
    """The first varint field of that number, an int64; 0 if there is none."""
    return next((_signed(value) for number, value in fields(message) if number == wanted and isinstance(value, int)), 0)


def _signed(value: int) -> int:
    """An int64 as the varint means it: negative ones are two's complement."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


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
