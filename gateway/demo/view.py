"""What the demo shows: a table from the gateway's own `/_metrics`."""

import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families
from rich import box
from rich.table import Table

COLUMNS = {
    "received": "gateway_received_items_total",
    "refused": "gateway_rejected_items_total",
    "sampled out": "gateway_sampled_out_items_total",
    "masked": "gateway_masked_values_total",
    "queued": "gateway_queued_items",
    "delivered": "gateway_delivered_items_total",
}


@dataclass
class Page:
    """One scrape: sums by metric, tenant and signal."""

    sums: dict[tuple[str, str, str], float] = field(default_factory=lambda: defaultdict(float))
    totals: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def value(self, metric: str, tenant: str, signal: str) -> int:
        return int(self.sums[metric, tenant, signal])

    def total(self, metric: str) -> int:
        return int(self.totals[metric])

    @property
    def settled(self) -> bool:
        return self.total("gateway_queued_items") == 0 and self.total("gateway_active_requests") == 0


def scrape(admin: str, token: str) -> Page:
    """Read `/_metrics`. Raises OSError."""
    request = urllib.request.Request(f"http://{admin}/_metrics", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
        text = response.read().decode()
    page = Page()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            value = abs(sample.value) if sample.name == "gateway_unaccounted_items" else sample.value
            page.totals[sample.name] += value
            if {"tenant", "signal"} <= sample.labels.keys():
                page.sums[sample.name, sample.labels["tenant"], sample.labels["signal"]] += value
    return page


def table(page: Page, title: str) -> Table:
    """One row a tenant and signal that sent anything; fits into 80 columns."""
    out = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    out.add_column("tenant")
    out.add_column("signal")
    for name in COLUMNS:
        out.add_column(name, justify="right")
    rows = sorted({(tenant, signal) for metric, tenant, signal in page.sums if metric == COLUMNS["received"]})
    for tenant, signal in rows:
        out.add_row(tenant, signal, *(f"{page.value(metric, tenant, signal):,}" for metric in COLUMNS.values()))
    return out
