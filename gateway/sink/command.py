"""`gateway sink`."""

import asyncio
import json
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

from gateway.sink.server import Sink

_SHOWN_WIDTH = 160


def run(host: str, http_port: int, grpc_port: int, store: Path | None, show: bool) -> int:
    """Receive until Ctrl-C. Returns the exit code."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(store.open("a", encoding="utf-8")) if store is not None else None
        except OSError as error:
            print(f"cannot write {store}: {error.strerror}", file=sys.stderr)
            return 2

        def shown() -> None:
            # What is written down or shown need not be kept.
            while sink.received.kept:
                arrival = sink.received.kept.popleft()
                if file is not None:
                    line = {"kind": arrival.kind, "tenant": arrival.tenant, "line": arrival.line}
                    file.write(json.dumps({**line, "everything": arrival.everything}) + "\n")
                if show:
                    print(f"{arrival.tenant:12} {arrival.kind:9} {arrival.line}"[:_SHOWN_WIDTH])
            # Whoever follows the file or the pipe sees each request, and a kill loses none.
            if file is not None:
                file.flush()
            sys.stdout.flush()

        sink = Sink(on_request=shown)
        with suppress(KeyboardInterrupt):
            try:
                asyncio.run(_receive(sink, host, http_port, grpc_port))
            except OSError as error:
                print(error, file=sys.stderr)
                return 2
    return 0


async def _receive(sink: Sink, host: str, http_port: int, grpc_port: int) -> None:
    try:
        await sink.start(host, http_port, grpc_port)
        print(
            f"receiving on {sink.http_url} (/api/v1/write, /loki/api/v1/push, /v1/traces|metrics|logs; "
            f"GET / for a summary) and grpc {host}:{sink.grpc_port}; Ctrl-C stops",
            file=sys.stderr,
        )
        await asyncio.Event().wait()
    finally:
        await sink.stop()
