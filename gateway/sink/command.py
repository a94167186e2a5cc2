"""`gateway sink`."""

import asyncio
import json
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

from gateway.sink.server import Sink, serve_forever

_SHOWN_WIDTH = 160


def run(host: str, http_port: int, grpc_port: int, store: Path | None, show: bool) -> int:
    """Receive until Ctrl-C. Returns the exit code."""
    with ExitStack() as stack:
        file = stack.enter_context(store.open("a", encoding="utf-8")) if store is not None else None

        def shown() -> None:
            # What is written down or shown need not be kept.
            while sink.received.kept:
                arrival = sink.received.kept.popleft()
                if file is not None:
                    line = {"kind": arrival.kind, "tenant": arrival.tenant, "line": arrival.line}
                    file.write(json.dumps({**line, "everything": arrival.everything}) + "\n")
                if show:
                    print(f"{arrival.tenant:12} {arrival.kind:6} {arrival.line}"[:_SHOWN_WIDTH])

        sink = Sink(on_request=shown)
        print(
            f"receiving on http://{host}:{http_port} (/api/v1/write, /loki/api/v1/push, /v1/traces|metrics|logs; "
            f"GET / for a summary) and grpc {host}:{grpc_port}; Ctrl-C stops",
            file=sys.stderr,
        )
        with suppress(KeyboardInterrupt):
            try:
                asyncio.run(serve_forever(sink, host, http_port, grpc_port))
            except OSError as error:
                print(f"cannot listen: {error}", file=sys.stderr)
                return 2
    return 0
