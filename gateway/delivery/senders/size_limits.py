"""How backends say that a request is over their size limit, where no status of its own says so."""

import re

_WORDS = re.compile(
    # gRPC servers: grpc-go, C core, grpc-java, .NET, tonic. Loki and Mimir pass those of their ingesters on with a 500.
    r"message (?:\S+ ){0,3}?(?:larger than max|exceeds (?:the )?maximum|(?:length )?too large)"
    # Go's http.MaxBytesReader, and so the Collector and Jaeger, with a 400.
    r"|request body too large"
    # VictoriaLogs and VictoriaMetrics, with a 400.
    r"|too big data size exceeding",
    re.IGNORECASE,
)


def says_too_large(message: str) -> bool:
    return _WORDS.search(message) is not None
