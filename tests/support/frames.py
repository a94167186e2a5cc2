"""HTTP/2 by hand, for clients that no library would be. Sources: RFC 9113, RFC 7541 (HPACK; nothing is indexed)."""

import struct
from dataclasses import dataclass
from socket import create_connection

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
CANCEL, ENHANCE_YOUR_CALM, REFUSED_STREAM = 8, 11, 7
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: str, value: str) -> bytes:
    """A header field of its own, without indexing."""
    return b"\0" + _string(name) + _string(value)


def _string(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, length = len(data) - 127, bytearray([127])
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    return bytes([*length, rest]) + data


def head(path: str, headers: dict[str, str], method: str = "POST") -> bytes:
    """The header block of a request."""
    pseudo = {":method": method, ":scheme": "http", ":authority": "gateway", ":path": path}
    return b"".join(literal(name, value) for name, value in {**pseudo, **headers}.items())


@dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def error(self) -> int:
        """Of GOAWAY and RST_STREAM."""
        start = 4 if self.kind == GOAWAY else 0
        return int.from_bytes(self.payload[start : start + 4], "big")


class RawHttp2:
    """A connection that sends what it is told to. By itself it answers pings, if that, while it receives."""

    def __init__(self, address: str, *, answers_pings: bool = True) -> None:
        self._answers_pings = answers_pings
        host, port = address.rsplit(":", 1)
        self._buffer = b""
        self.socket = create_connection((host, int(port)), timeout=10)
        self.socket.sendall(PREFACE + frame(SETTINGS))

    def __enter__(self) -> "RawHttp2":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def receive(self) -> Frame | None:
        """The next frame, or None when the connection is closed."""
        while True:
            if len(self._buffer) >= 9:
                length = int.from_bytes(self._buffer[:3], "big")
                if len(self._buffer) >= 9 + length:
                    kind, flags, stream = struct.unpack(">BBI", self._buffer[3:9])
                    payload, self._buffer = self._buffer[9 : 9 + length], self._buffer[9 + length :]
                    if kind == PING and self._answers_pings and not flags & ACK:
                        self.send(frame(PING, ACK, 0, payload))
                    return Frame(kind, flags, stream, payload)
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._buffer += data

    def pinged(self) -> bool:
        """Wait until the gateway has read all that was sent; False if the connection closes without."""
        self.send(frame(PING, 0, 0, b"are here"))
        while (received := self.until(PING)) is not None:
            if received.flags & ACK:
                return True
        return False

    def until(self, kind: int) -> Frame | None:
        """The next frame of this kind; None if the connection closes without."""
        while (received := self.receive()) is not None:
            if received.kind == kind:
                return received
        return None
