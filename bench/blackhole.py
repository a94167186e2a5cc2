"""A backend that takes everything and answers 200 at once: an HTTP/1.1 server that only counts lengths."""

import asyncio
import sys

import uvloop

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Blackhole(asyncio.Protocol):
    """Reads a head, skips a body of its Content-Length (or chunked, to its end), answers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.head = b""
        self.left = 0
        self.chunked = False

    def data_received(self, data: bytes) -> None:
        while data:
            if self.left:
                skipped = min(self.left, len(data))
                self.left -= skipped
                data = data[skipped:]
                if self.left == 0:
                    self.answer()
            elif self.chunked:
                # The end of a chunked body; a payload that holds these bytes at the very end of a read is unlikely.
                if data.endswith(b"0\r\n\r\n"):
                    self.chunked = False
                    self.answer()
                return
            else:
                self.head += data
                end = self.head.find(b"\r\n\r\n")
                if end < 0:
                    return
                head, data, self.head = self.head[:end].lower(), self.head[end + 4 :], b""
                if b"expect: 100-continue" in head:
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # type: ignore[attr-defined]
                at = head.find(b"content-length:")
                self.chunked = b"transfer-encoding: chunked" in head
                self.left = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
                if not self.left and not self.chunked:
                    self.answer()

    def answer(self) -> None:
        self.transport.write(_ANSWER)  # type: ignore[attr-defined]


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Blackhole, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
