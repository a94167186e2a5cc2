"""The demo's table is whole in the narrowest usual terminal."""

from rich.console import Console

from gateway.demo.setup import TENANTS
from gateway.demo.view import COLUMNS, Page, table


def test_the_table_fits_into_80_columns_with_every_name_whole() -> None:
    page = Page()
    for tenant in TENANTS:
        for signal in ("traces", "metrics", "logs"):
            for metric in COLUMNS.values():
                page.sums[metric, tenant, signal] = 9_999
    console = Console(width=80, record=True)
    with console.capture() as capture:
        console.print(table(page, "in the end"))
    lines = capture.get().splitlines()
    assert len(lines) == 1 + 2 + 9, "nothing is wrapped"
    assert lines[1].split() == ["tenant", "signal", *" ".join(COLUMNS).split()]
