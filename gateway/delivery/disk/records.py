"""The LMDB environment of the queue: its databases, and the walks that go over all of them."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb

from gateway.delivery.disk.frame import FORMAT_VERSION
from gateway.delivery.disk.keys import key, key_v1, shard_prefix, tenant_prefix, tenant_prefix_v1
from gateway.delivery.disk.survey import META, QUARANTINE, RECORDS, STATE_KEY, VERSION_KEY, pack_state
from gateway.types import Shard

MAX_QUARANTINED, MAX_QUARANTINE_BYTES = 1000, 32 << 20
"""The oldest go first; what is in quarantine is for a person to look at, if somebody asks for it soon."""
_DELETES_A_COMMIT = 10_000
_TIME_BYTES = 8


class Records:
    """An environment, once it is open. Methods raise lmdb.Error; those that write are for one thread at a time."""

    def __init__(self, folder: Path, map_size: int) -> None:
        self._folder, self._map_size = folder, map_size
        self.environment: Any = None

    def open(self) -> None:
        self.environment = lmdb.open(
            str(self._folder), map_size=self._map_size, max_dbs=3, mode=0o600, subdir=True, writemap=False
        )
        self.records = self.environment.open_db(RECORDS)
        self.quarantined = self.environment.open_db(QUARANTINE)
        self._meta = self.environment.open_db(META)

    def close(self) -> None:
        """May be called again, and before it was open."""
        if self.environment is not None:
            self.environment.close()

    def write_state(self, identity: bytes, epoch: int) -> None:
        with self.environment.begin(db=self._meta, write=True) as transaction:
            transaction.put(VERSION_KEY, str(FORMAT_VERSION).encode())
            transaction.put(STATE_KEY, pack_state(identity, epoch))

    @property
    def transaction(self) -> int:
        """Number of the last commit."""
        return int(self.environment.info()["last_txnid"])

    def live_bytes(self) -> int:
        """Pages that are in use."""
        with self.environment.begin() as transaction:
            trees = [transaction.stat(), *map(transaction.stat, (self.records, self.quarantined, self._meta))]
        return sum(
            tree["psize"] * (tree["branch_pages"] + tree["leaf_pages"] + tree["overflow_pages"]) for tree in trees
        )

    def settle(self, shard: Shard, below: int) -> int:
        """Delete the records of a shard below a sequence; how many."""
        deleted = 0
        for first, end in (
            (key(shard, 0), key(shard, below)),
            (key_v1(shard, 0), key_v1(shard, below)),
        ):
            deleted += self._delete(self.records, first, lambda raw, end=end: raw < end and len(raw) == len(end))
        return deleted

    def forget(self, tenant: str) -> int:
        """Delete all that is kept of a tenant; how many records, without those in quarantine."""
        deleted = 0
        for prefix in (tenant_prefix(tenant), tenant_prefix_v1(tenant)):
            deleted += self._delete(self.records, prefix, lambda raw, prefix=prefix: raw.startswith(prefix))
        with self.environment.begin(db=self.quarantined, write=True) as transaction:
            cursor = transaction.cursor()
            prefixes = (tenant_prefix(tenant), tenant_prefix_v1(tenant))
            found = cursor.first()
            while found:
                raw = bytes(cursor.key())
                ours = raw[_TIME_BYTES:].startswith(prefixes) or raw.startswith(prefixes)
                found = cursor.delete() and bool(cursor.key()) if ours else cursor.next()
        return deleted

    def set_aside(self, raw_keys: tuple[bytes, ...], keep: bool) -> int:
        """Take a record out, and keep it in quarantine; how many had to leave that for it."""
        evicted = 0
        with self.environment.begin(write=True) as transaction:
            for raw in raw_keys:
                frame = transaction.pop(raw, db=self.records)
                if frame is None or not keep:
                    continue
                transaction.put(time.time_ns().to_bytes(_TIME_BYTES, "big") + raw, frame, db=self.quarantined)
            cursor = transaction.cursor(db=self.quarantined)
            while self._quarantine_is_full(transaction) and cursor.first():
                cursor.delete()
                evicted += 1
        return evicted

    def quarantine_size(self) -> tuple[int, int]:
        """Records and about how many bytes."""
        with self.environment.begin() as transaction:
            tree = transaction.stat(self.quarantined)
        return tree["entries"], tree["psize"] * (tree["leaf_pages"] + tree["overflow_pages"])

    def copy_to(self, folder: Path) -> None:
        """What is in use, without free pages, as a file in another folder."""
        self.environment.copy(str(folder), compact=True)

    def file_bytes(self) -> int:
        """What the data file takes on disk."""
        return os.stat(self._folder / "data.mdb").st_blocks * 512

    def shard_cursor(self, transaction: Any, shard: Shard, from_sequence: int, old: bool) -> Iterator[tuple[int, Any]]:
        """Sequences and frames of a shard, whose memory is LMDB's: good until the next one is asked for."""
        cursor = transaction.cursor()
        first = key_v1(shard, from_sequence) if old else key(shard, from_sequence)
        prefix = first[:-8] if old else shard_prefix(shard)
        found = cursor.set_range(first)
        while found:
            raw = bytes(cursor.key())
            # In version 1, the first shard's prefix is one of the others', whose keys are longer and come later.
            if not raw.startswith(prefix) or len(raw) != len(first):
                return
            yield int.from_bytes(raw[-8:], "big"), cursor.value()
            found = cursor.next()

    def _quarantine_is_full(self, transaction: Any) -> bool:
        tree = transaction.stat(self.quarantined)
        size = tree["psize"] * (tree["leaf_pages"] + tree["overflow_pages"])
        return bool(tree["entries"] > MAX_QUARANTINED or size > MAX_QUARANTINE_BYTES)

    def _delete(self, database: Any, first: bytes, belongs: Any) -> int:
        """From `first` on as long as a key belongs; in commits of bounded size."""
        deleted = 0
        while True:
            with self.environment.begin(db=database, write=True) as transaction:
                cursor = transaction.cursor()
                found, here = cursor.set_range(first), 0
                while found and here < _DELETES_A_COMMIT and belongs(bytes(cursor.key())):
                    cursor.delete()
                    here += 1
                    found = bool(cursor.key())
            deleted += here
            if here < _DELETES_A_COMMIT:
                return deleted
