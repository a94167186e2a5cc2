"""The thread between those who record and the disk: nobody waits for it, and what is lost is counted."""

import errno
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import structlog

from gateway.audit.event import Event, EventType
from gateway.audit.trail import ACTOR, AnchorKind, Trail

log = structlog.get_logger(__name__)

# Events that wait for the disk; a line is a few hundred bytes.
CAPACITY = 4096
_MAX_BATCH = 512
# How long the disk is left alone after an error, and how often the day is looked at.
_RETRY_S = 1.0
_TICK_S = 30.0
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
OVERFLOW, DISK_FULL, WRITE_ERROR = "overflow", "disk_full", "write_error"


@dataclass(frozen=True, slots=True)
class AuditStats:
    """The trail as operators see it."""

    written: Mapping[str, int]
    """Lines, by event type."""
    lost: Mapping[str, int]
    """Events, by reason."""
    writable: bool
    sequence: int
    """Of the last line: outside evidence of how long the trail must be."""


class Writer:
    """Writes in the order of `submit`, each batch synced before the next is taken."""

    def __init__(
        self,
        trail: Trail,
        *,
        now: Callable[[], datetime],
        capacity: int = CAPACITY,
        retry_s: float = _RETRY_S,
        tick_s: float = _TICK_S,
    ) -> None:
        self._trail = trail
        self._now = now
        self._retry_s = retry_s
        self._tick_s = tick_s
        self._queue: queue.Queue[Event | None] = queue.Queue(capacity)
        self._closing = threading.Event()
        self._failing: str | None = None
        """Why nothing can be written at present: a reason of a loss."""
        self._lost: Counter[str] = Counter({OVERFLOW: 0, DISK_FULL: 0, WRITE_ERROR: 0})
        self._told: Counter[str] = Counter()
        """What of `_lost` stands in the trail."""
        self._loss_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, event: Event) -> None:
        """Queue `event`, or count it as lost. Returns at once."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._lose(1)

    def close(self, timeout_s: float) -> None:
        """Write what is queued and the last anchor; a disk that does not take it is tried once more, not for ever."""
        self._closing.set()
        # If it is full, the thread has something to wake up for.
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.error("the audit trail could not be closed in time", timeout_s=timeout_s)

    def stats(self) -> AuditStats:
        with self._loss_lock:
            lost = dict(self._lost)
        return AuditStats(dict(self._trail.written), lost, self._failing is None, self._trail.sequence)

    # In the thread.

    def _run(self) -> None:
        self._keep([], anchor="start")
        while not (self._closing.is_set() and self._queue.empty()):
            if batch := self._take():
                self._keep(batch)
            else:
                self._rotate_if_due()
        self._keep([], anchor="stop")
        self._trail.close()

    def _take(self) -> list[Event]:
        """What is queued; waits for the first."""
        batch: list[Event] = []
        try:
            event = self._queue.get(timeout=self._tick_s)
            while True:
                if event is not None:
                    batch.append(event)
                if len(batch) == _MAX_BATCH:
                    return batch
                event = self._queue.get_nowait()
        except queue.Empty:
            return batch

    def _keep(self, batch: Sequence[Event], anchor: AnchorKind | None = None) -> None:
        """Write `batch`, again while the disk refuses; meanwhile the queue fills, and then what comes is lost."""
        while True:
            last_try = self._closing.is_set()
            told, loss = self._loss()
            try:
                self._trail.append([*loss, *batch], anchor)
            except OSError as error:
                self._fail(error)
                if last_try:
                    self._lose(len(batch))
                    return
                self._closing.wait(self._retry_s)
            except Exception:
                # A bug: the same events would fail again, and must not keep all others out.
                self._failing = WRITE_ERROR
                log.exception("audit events could not be put into lines")
                self._lose(len(batch))
                return
            else:
                self._told = told
                self._recover()
                return

    def _rotate_if_due(self) -> None:
        try:
            self._trail.rotate_if_due()
        except OSError as error:
            self._fail(error)
        else:
            self._recover()

    def _loss(self) -> tuple[Counter[str], list[Event]]:
        """What is lost by now, and the line that says so, if one is due."""
        with self._loss_lock:
            lost = self._lost.copy()
        untold = lost - self._told
        if not untold:
            return lost, []
        details = {"events": untold.total(), "reasons": dict(untold)}
        return lost, [Event(EventType.LOST, self._now(), ACTOR, details=details)]

    def _lose(self, events: int) -> None:
        if events:
            with self._loss_lock:
                first = not self._lost.total() - self._told.total()
                self._lost[self._failing or OVERFLOW] += events
            if first:
                log.error("audit events are lost", reason=self._failing or OVERFLOW)

    def _fail(self, error: OSError) -> None:
        reason = DISK_FULL if error.errno in _FULL else WRITE_ERROR
        if reason != self._failing:
            self._failing = reason
            log.error("the audit trail cannot be written; events wait in memory", error=str(error), reason=reason)

    def _recover(self) -> None:
        if self._failing is not None:
            self._failing = None
            log.info("the audit trail is written again")
