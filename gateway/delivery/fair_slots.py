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


# What holds a slot for so long hangs, or its backend is slow: neither is a reason for others to wait.
_SLOW_S = 0.25


@dataclass(slots=True, eq=False)
class _Turn:
    """A wait for a slot, and then the slot."""

    cost: int
    probe: bool
    granted: asyncio.Future[None]
    granted_at: float = 0.0
    slow: bool = False
    """It has made room for another one."""


@dataclass(slots=True)
class _Tenant:
    waiters: deque[_Turn] = field(default_factory=deque)
    account: int = 0
    """Bytes that it may still take in this round; below zero, what it owes."""
    slots: int = 0
    held: int = 0
    """Bytes of the slots that it holds."""


class FairSlots:
    """Slots for work of a known cost in bytes, shared by tenants.

    One tenant gets at most half of the slots and bytes, and probes of what failed before get a quarter of the slots, so
    that what hangs leaves room for the others. What costs more than all bytes has its turn when nobody else has one.

    With `slow_slots`, up to so many turns that take long count no more among the slots, when others wait: hundreds of
    tenants may begin to hang at once, and until that is known each has a turn.
    """

    def __init__(self, slots: int, max_bytes: int, *, slow_slots: int = 0) -> None:
        self._slots, self._max_bytes, self._slow_slots = slots, max_bytes, slow_slots
        self._tenant_slots, self._tenant_bytes = max(1, slots // 2), max_bytes // 2
        self._probe_slots = max(1, slots // 4)
        self._slow = self._probes = self._held = 0
        self._quick: dict[_Turn, None] = {}
        """Turns that are not slow, the oldest first."""
        self._look: asyncio.TimerHandle | None = None
        self._tenants: dict[str, _Tenant] = {}
        """Those that wait, hold a slot or owe something."""
        self._ring: deque[str] = deque()
        """Tenants that wait, in the order of their turns."""

    @property
    def used(self) -> int:
        """Slots and slow slots."""
        return len(self._quick) + self._slow

    @property
    def waiting(self) -> int:
        """How many tenants wait."""
        return len(self._ring)

    @asynccontextmanager
    async def turn(self, tenant: str, cost: int, *, probe: bool = False) -> AsyncIterator[None]:
        """Wait for a slot, and hold it for the length of the block. `cost`: bytes."""
        turn = await self._acquire(tenant, cost, probe)
        try:
            yield
        finally:
            self._release(tenant, turn)

    async def _acquire(self, name: str, cost: int, probe: bool) -> _Turn:
        tenant = self._tenants.setdefault(name, _Tenant())
        waiter = _Turn(cost, probe, asyncio.get_running_loop().create_future())
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
                self._release(name, waiter)
            raise
        return waiter

    def _leave(self, name: str, tenant: _Tenant, waiter: _Turn) -> None:
        """It was cancelled before its turn; others may have waited behind it."""
        tenant.waiters.remove(waiter)
        if not tenant.waiters:
            self._ring.remove(name)
            self._settle(name, tenant)
        self._grant()

    def _release(self, name: str, turn: _Turn) -> None:
        tenant = self._tenants[name]
        if turn.slow:
            self._slow -= 1
        else:
            del self._quick[turn]
        self._held -= turn.cost
        self._probes -= turn.probe
        tenant.slots -= 1
        tenant.held -= turn.cost
        self._settle(name, tenant)
        self._grant()

    def _settle(self, name: str, tenant: _Tenant) -> None:
        """A tenant that has nothing here leaves; what it owes is remembered as long as others wait."""
        if not tenant.waiters and not tenant.slots and (tenant.account >= 0 or not self._ring):
            del self._tenants[name]
        if not self._ring and len(self._tenants) > self.used:
            self._tenants = {name: tenant for name, tenant in self._tenants.items() if tenant.slots}

    def _grant(self) -> None:
        """Give free slots to those whose turn it is."""
        passed_over = 0
        while self._ring and passed_over < len(self._ring) and (len(self._quick) < self._slots or self._put_aside()):
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

    def _put_aside(self) -> bool:
        """Whether the oldest turn is slow, and makes room; if it is not yet, this is looked at again when it is."""
        if self._slow >= self._slow_slots:
            return False
        loop, oldest = asyncio.get_running_loop(), next(iter(self._quick))
        slow_at = oldest.granted_at + _SLOW_S
        if loop.time() < slow_at:
            if self._look is None:
                self._look = loop.call_at(slow_at, self._look_again)
            return False
        oldest.slow = True
        del self._quick[oldest]
        self._slow += 1
        return True

    def _look_again(self) -> None:
        self._look = None
        self._grant()

    def _take(self, tenant: _Tenant) -> None:
        """The first in the ring gets what it waits for, and stays first while its account lasts."""
        waiter = tenant.waiters.popleft()
        tenant.account -= waiter.cost
        tenant.slots += 1
        tenant.held += waiter.cost
        self._held += waiter.cost
        self._probes += waiter.probe
        waiter.granted_at = asyncio.get_running_loop().time()
        self._quick[waiter] = None
        if not tenant.waiters:
            self._ring.popleft()
            tenant.account = min(tenant.account, 0)
        elif tenant.account <= 0:
            self._ring.rotate(-1)
        waiter.granted.set_result(None)

    def _fits(self, tenant: _Tenant, waiter: _Turn) -> bool:
        if waiter.probe and self._probes >= self._probe_slots:
            return False
        if tenant.slots == 0:
            return self._held == 0 or self._held + waiter.cost <= self._max_bytes
        return tenant.slots < self._tenant_slots and tenant.held + waiter.cost <= self._tenant_bytes
