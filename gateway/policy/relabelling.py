"""The relabelling part of the policy table."""

from typing import Any

from gateway.config.models import Relabel, RelabelRule
from gateway.types import Signal


def compile_relabel(relabel: Relabel, signal: Signal) -> dict[str, Any]:
    """`engine/src/policy.rs: Relabel`: rules on resources, then, for metrics, on each series."""
    resource = list(relabel.resource or ())
    series: list[RelabelRule] = []
    match signal:
        case Signal.TRACES:
            resource += relabel.traces or ()
        case Signal.LOGS:
            resource += relabel.logs or ()
        case Signal.METRICS:
            series += relabel.metrics or ()
    return {
        "resource": [rule.model_dump(mode="json") for rule in resource],
        "series": [rule.model_dump(mode="json") for rule in series],
    }
