"""A bounded number of slots, given out by deficit round robin over tenants.

Source: Shreedhar and Varghese, "Efficient fair queuing using deficit round robin" (1996); here a tenant may overdraw
once and pays before its next turn (surplus round robin), so that what a turn costs need not fit into the quantum.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

# What a tenant's account grows by in one round: a large request is paid for in a few of them.
_QUANTUM_BYTES = 1 << 20


@dataclass(slots=True)
class _Waiter:
    cost: int
    probe: bool
    granted: asyncio.Future[None]


@dataclass(slots=True)
class _Tenant:
    waiters: deque[_Waiter] = field(default_factory=deque)
    account: int = 0
    """Bytes that it may still take in this round; below zero, what it owes."""
    slots: int = 0
    held: int = 0
    """Bytes of the slots that it holds."""


class FairSlots:
    """Slots for work of a known cost in bytes, shared by tenants.

    One tenant gets at most half of the slots and bytes, and probes of what failed before get a quarter of the slots, so
    that what hangs leaves room for the others. What costs more than all bytes has its turn when nobody else has one.
    """

    def __init__(self, slots: int, max_bytes: int) -> None:
        self._slots, self._max_bytes = slots, max_bytes
        self._tenant_slots, self._tenant_bytes = max(1, slots // 2), max_bytes // 2
        self._probe_slots = max(1, slots // 4)
        self._used = self._probes = self._held = 0
        self._tenants: dict[str, _Tenant] = {}
        """Those that wait, hold a slot or owe something."""
        self._ring: deque[str] = deque()
        """Tenants that wait, in the order of their turns."""

    @property
    def used(self) -> int:
        return self._used

    @property
    def waiting(self) -> int:
        """How many tenants wait."""
        return len(self._ring)

    @asynccontextmanager
    async def turn(self, tenant: str, cost: int, *, probe: bool = False) -> AsyncIterator[None]:
        """Wait for a slot, and hold it for the length of the block. `cost`: bytes."""
        await self._acquire(tenant, cost, probe)
        try:
            yield
        finally:
            self._release(tenant, cost, probe)

    async def _acquire(self, name: str, cost: int, probe: bool) -> None:
        tenant = self._tenants.setdefault(name, _Tenant())
        waiter = _Waiter(cost, probe, asyncio.get_running_loop().create_future())
        if not tenant.waiters:
            self._ring.append(name)
        tenant.waiters.append(waiter)
        self._grant()
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.cancelled():
                self._leave(name, tenant, waiter)
            else:
                self._release(name, cost, probe)
            raise

    def _leave(self, name: str, tenant: _Tenant, waiter: _Waiter) -> None:
        """It was cancelled before its turn; others may have waited behind it."""
        tenant.waiters.remove(waiter)
        if not tenant.waiters:
            self._ring.remove(name)
            self._settle(name, tenant)
        self._grant()

    def _release(self, name: str, cost: int, probe: bool) -> None:
        tenant = self._tenants[name]
        self._used -= 1
        self._held -= cost
        self._probes -= probe
        tenant.slots -= 1
        tenant.held -= cost
        self._settle(name, tenant)
        self._grant()

    def _settle(self, name: str, tenant: _Tenant) -> None:
        """A tenant that has nothing here leaves; what it owes is remembered as long as others wait."""
        if not tenant.waiters and not tenant.slots and (tenant.account >= 0 or not self._ring):
            del self._tenants[name]
        if not self._ring and len(self._tenants) > self._used:
            self._tenants = {name: tenant for name, tenant in self._tenants.items() if tenant.slots}

    def _grant(self) -> None:
        """Give free slots to those whose turn it is."""
        passed_over = 0
        while self._ring and passed_over < len(self._ring) and self._used < self._slots:
            name = self._ring[0]
            tenant = self._tenants[name]
            # Whoever was cancelled leaves by itself, soon, and grants what it blocks.
            if tenant.waiters[0].granted.cancelled() or not self._fits(tenant, tenant.waiters[0]):
                passed_over += 1
                self._ring.rotate(-1)
            elif tenant.account <= 0:
                tenant.account += _QUANTUM_BYTES
                if tenant.account <= 0:
                    self._ring.rotate(-1)
            else:
                passed_over = 0
                self._take(tenant)

    def _take(self, tenant: _Tenant) -> None:
        """The first in the ring gets what it waits for, and stays first while its account lasts."""
        waiter = tenant.waiters.popleft()
        tenant.account -= waiter.cost
        tenant.slots += 1
        tenant.held += waiter.cost
        self._used += 1
        self._held += waiter.cost
        self._probes += waiter.probe
        if not tenant.waiters:
            self._ring.popleft()
            tenant.account = min(tenant.account, 0)
        elif tenant.account <= 0:
            self._ring.rotate(-1)
        waiter.granted.set_result(None)

    def _fits(self, tenant: _Tenant, waiter: _Waiter) -> bool:
        if waiter.probe and self._probes >= self._probe_slots:
            return False
        if tenant.slots == 0:
            return self._held == 0 or self._held + waiter.cost <= self._max_bytes
        return tenant.slots < self._tenant_slots and tenant.held + waiter.cost <= self._tenant_bytes
