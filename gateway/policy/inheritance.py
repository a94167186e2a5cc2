"""What a tenant's settings come to when `defaults` are filled in."""

from dataclasses import dataclass
from typing import Literal

from gateway.config.masking import Mask
from gateway.config.models import Config, Relabel, Tenant
from gateway.config.quotas import Quotas
from gateway.config.routes import Route
from gateway.types import Signal


@dataclass(frozen=True)
class Effective:
    """A tenant's settings with nothing left to inherit."""

    routes: dict[Signal, tuple[Route, ...]]
    quotas: Quotas
    mask: Mask | None
    relabel: Relabel
    trace_ratio: float
    claims: Literal["overwrite", "refuse"]


def effective(config: Config, tenant: Tenant) -> Effective:
    """Routes are inherited signal by signal, quotas and mask key by key, relabel list by list."""
    defaults = config.defaults
    mask = tenant.mask or defaults.mask
    if tenant.mask is not None and defaults.mask is not None:
        mask = tenant.mask.over(defaults.mask)
    sampling = tenant.sample.traces or defaults.sample.traces
    return Effective(
        routes={**defaults.routes, **tenant.routes},
        quotas=tenant.quotas.over(defaults.quotas),
        mask=mask if mask is not None and mask.enabled else None,
        relabel=defaults.relabel.model_copy(update={
            name: rules for name in Relabel.model_fields if (rules := getattr(tenant.relabel, name)) is not None
        }),
        trace_ratio=sampling.ratio if sampling is not None else 1.0,
        claims=tenant.claims or defaults.claims or "overwrite",
    )  # fmt: skip
