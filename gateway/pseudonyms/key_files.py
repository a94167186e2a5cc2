"""Keys that stand in the configuration or in files of their own, which are watched."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from gateway.config.pseudonyms import KeyVersion, parse_key
from gateway.pseudonyms.keys import SHARED, HeldKeys, wipe
from gateway.pseudonyms.source import Reading, SourceProblem

_Stamp = tuple[int, int, int]


class KeyFiles:
    """The versions of one key; all tenants' keys are derived from them."""

    def __init__(self, name: str, versions: Sequence[KeyVersion], *, poll_s: float) -> None:
        self._name = name
        self._versions = versions
        self._poll_s = poll_s
        self._taken: dict[int, _Stamp] = {}
        self._changed: dict[int, _Stamp] = {}

    @property
    def interval_s(self) -> float:
        return self._poll_s

    async def read(self, owners: Sequence[str], held: HeldKeys) -> Reading:
        return await asyncio.to_thread(self._read, held) if owners else Reading()

    def _read(self, held: HeldKeys) -> Reading:
        reading = Reading()
        for version in self._versions:
            try:
                if version.key_file is not None:
                    self._look(version.version, version.key_file, held, reading)
                elif version.key is not None and (SHARED, version.version) not in held:
                    reading.found[SHARED, version.version] = parse_key(version.key.get_secret_value().encode())
            except SourceProblem as problem:
                reading.problems.append(str(problem))
        return reading

    def _look(self, version: int, file: Path, held: HeldKeys, reading: Reading) -> None:
        owned = (SHARED, version)
        where = f"pseudonym_keys.{self._name}: version {version}"
        known = owned in held
        stay = "; the key that was read before stays in use" if known else ""
        try:
            status = file.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if known and stamp == self._taken.get(version):
                self._changed.pop(version, None)
                return
            key = parse_key(file.read_bytes())
        except OSError as error:
            raise SourceProblem(f"{where}: cannot read {file}: {error.strerror}{stay}") from None
        except ValueError as error:
            raise SourceProblem(f"{where}: {file}: {error}{stay}") from None
        # A file that is half written may hold a key already, only not the one that is meant: what changed is taken when
        # it looks the same at a second look.
        if known and held.differs(owned, key) and self._changed.get(version) != stamp:
            self._changed[version] = stamp
            wipe(key)
            return
        self._taken[version] = stamp
        self._changed.pop(version, None)
        reading.found[owned] = key
