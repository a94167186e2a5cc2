"""LMDB's file read without LMDB, which trusts its pages: a wrong bit in one can end the process, or overwrite others.

LMDB has no checksums of pages. But its tree says many things twice: each page its own number, each database how many
pages and entries it has, keys their order, the free list which pages nobody uses. What agrees in all of that is safe to
open; what a record holds is checked by the record's own checksums. Source: lmdb 0.9 `mdb.c`, on 64-bit little-endian
machines.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

MAX_HEAD_BYTES = 1100
"""How much of a value comes with its entry."""
_PAGE = struct.Struct("<QHHHH")
_META = struct.Struct("<IIQQ")
_TREE = struct.Struct("<IHHQQQQQ")
_META_END = struct.Struct("<QQ")
_NODE = struct.Struct("<HHHH")
_NUMBER = struct.Struct("<Q")
_PAGE_COUNT = struct.Struct("<I")
_BRANCH, _LEAF, _OVERFLOW, _META_FLAG = 1, 2, 4, 8
_BIG_DATA, _SUB_TREE = 1, 2
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_FREE_FLAGS = 8  # keys of the free list are integers; none of the flags that are kept with the environment is ours
_NO_ROOT = (1 << 64) - 1
_MAX_KEY_BYTES = 511
_MAX_DEPTH = 32
_MAX_UNWRITTEN_BYTES = 256 << 20
_READ, _FREE = 1, 2
# No database of ours has these names.
_MAIN, _FREE_LIST = b"", b"\0free"


class DamagedError(Exception):
    """The file is not as LMDB writes it."""


class Entry(NamedTuple):
    """A key and where its value lies in the file."""

    database: bytes
    key: bytes
    offset: int
    size: int
    head: bytes
    """The value's beginning, or all of it."""


@dataclass(frozen=True, slots=True)
class _Tree:
    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int


@dataclass(frozen=True, slots=True)
class _Meta:
    free: _Tree
    main: _Tree
    last_page: int
    transaction: int


@dataclass(slots=True)
class _Count:
    branch_pages: int = 0
    leaf_pages: int = 0
    overflow_pages: int = 0
    entries: int = 0
    depth: int = 0


class PageFile:
    """A `data.mdb` that nobody writes to meanwhile."""

    def __init__(self, file: Path, *, tolerant: bool = False) -> None:
        """Open it. Raises OSError; DamagedError if even its first two pages are not LMDB's.

        `tolerant`: what is damaged is left out, and named in `damages`; else it is raised.
        """
        self.damages: list[str] = []
        self._tolerant = tolerant
        self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.size = os.fstat(self._descriptor).st_size
            self.page_size = 4096
            self._meta = self._newest_meta()
        except BaseException:
            os.close(self._descriptor)
            raise
        self._pages = bytearray(self._meta.last_page + 1)
        self._pages[0:2] = bytes((_READ, _READ))

    @property
    def transaction(self) -> int:
        """Number of the last commit."""
        return self._meta.transaction

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def entries(self) -> Iterator[Entry]:
        """All entries of all named databases, each database in the order of its keys. Raises DamagedError.

        Only a walk to the end has proved the file: counts and the free list come last.
        """
        trees: list[tuple[bytes, _Tree]] = []
        for node in self._walk(_MAIN, self._meta.main):
            tree = _tree(_TREE.unpack(node.head)) if len(node.head) == _TREE.size else None
            if tree is None or tree.flags:
                self._damaged("something else than a database of ours stands among the databases")
            else:
                trees.append((node.key, tree))
        for name, tree in trees:
            yield from self._walk(name, tree)
        self._check_free_list()

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file. Raises DamagedError if the disk cannot read them, or the file ends before."""
        try:
            found = os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise DamagedError(f"the disk cannot read it: {error.strerror}") from error
        if len(found) != size:
            raise DamagedError("the file ends too early")
        return found

    def _damaged(self, what: str) -> None:
        if not self._tolerant:
            raise DamagedError(what)
        self.damages.append(what)

    def _newest_meta(self) -> _Meta:
        metas = []
        for place in range(2):
            try:
                metas.append(self._read_meta(place))
            except DamagedError as error:
                self._damaged(str(error))
        if not metas:
            raise DamagedError("neither of the first pages is LMDB's")
        transactions = sorted(meta.transaction for meta in metas)
        if len(metas) == 2 and transactions[1] - transactions[0] > 1:
            # Each commit writes the older of them.
            self._damaged("the first pages are not of two commits in a row")
        return max(metas, key=lambda meta: meta.transaction)

    def _read_meta(self, place: int) -> _Meta:
        page = self.read(place * self.page_size, self.page_size)
        number, _, flags, _, _ = _PAGE.unpack_from(page)
        magic, version, address, _ = _META.unpack_from(page, 16)
        free = _TREE.unpack_from(page, 40)
        main = _TREE.unpack_from(page, 88)
        last_page, transaction = _META_END.unpack_from(page, 136)
        if (magic, version, flags, address) != (_MAGIC, _VERSION, _META_FLAG, 0):
            raise DamagedError("a first page is not LMDB's")
        page_size = free[0]
        if place == 0 and page_size != self.page_size and page_size in (8192, 16384, 32768, 65536):
            self.page_size = page_size
        if page_size != self.page_size or (free[1], main[1]) != (_FREE_FLAGS, 0) or number != place:
            raise DamagedError("a first page is not one of this machine")
        if transaction and transaction % 2 != place:
            raise DamagedError("a first page stands in the place of the other")
        # Pages that were taken and given back within one commit were never written.
        if last_page * self.page_size > 2 * self.size + _MAX_UNWRITTEN_BYTES:
            raise DamagedError("the file is shorter than its first page says")
        return _Meta(_tree(free), _tree(main), last_page, transaction)

    def _walk(self, name: bytes, tree: _Tree) -> Iterator[Entry]:
        count = _Count()
        if tree.root == _NO_ROOT:
            if tree.entries:
                self._damaged("a database has entries and no pages")
            return
        yield from self._subtree(name, tree, tree.root, 1, None, None, count)
        found = (count.branch_pages, count.leaf_pages, count.overflow_pages, count.entries, count.depth)
        if found != (tree.branch_pages, tree.leaf_pages, tree.overflow_pages, tree.entries, tree.depth):
            self._damaged(f"the database {name.decode(errors='replace')!r} has other pages than it says")

    def _subtree(
        self, name: bytes, tree: _Tree, number: int, level: int, low: bytes | None, high: bytes | None, count: _Count
    ) -> Iterator[Entry]:
        """Of one page: its keys are not below `low`, and below `high`."""
        try:
            page = self._take_page(number)
            flags, nodes = self._nodes(page)
        except DamagedError as error:
            self._damaged(str(error))
            return
        deepest = _MAX_DEPTH if self._tolerant else tree.depth
        if flags == _BRANCH and level < deepest:
            count.branch_pages += 1
            # The first key of a branch stands for whatever is lower than the second.
            separators = [_node_key(page, node) for node in nodes[1:]]
            bounds = [low, *separators, high]
            if tree is not self._meta.free:
                self._check_order(separators, low, high)
            for index, node in enumerate(nodes):
                child = node[1] | node[2] << 16 | node[3] << 32
                yield from self._subtree(name, tree, child, level + 1, bounds[index], bounds[index + 1], count)
            return
        if flags != _LEAF:
            self._damaged("a page is of another kind than its place")
            return
        count.leaf_pages += 1
        count.depth = max(count.depth, level)
        keys = [_node_key(page, node) for node in nodes]
        if tree is not self._meta.free:
            self._check_order(keys, low, high)
        base = number * self.page_size
        for key, node in zip(keys, nodes, strict=True):
            count.entries += 1
            try:
                entry = self._value(name, page, base, key, node, count)
            except DamagedError as error:
                self._damaged(str(error))
                continue
            yield entry

    def _value(
        self, name: bytes, page: bytes, base: int, key: bytes, node: tuple[int, int, int, int, int], count: _Count
    ) -> Entry:
        place, low, high, flags, key_size = node
        start, size = place + _NODE.size + key_size, low | high << 16
        if flags not in ((_SUB_TREE,) if name == _MAIN else (0, _BIG_DATA)):
            raise DamagedError("an entry is of an unknown kind")
        if not flags & _BIG_DATA:
            if start + size > self.page_size:
                raise DamagedError("an entry reaches over the end of its page")
            return Entry(name, key, base + start, size, page[start : start + min(size, MAX_HEAD_BYTES)])
        if start + _NUMBER.size > self.page_size:
            raise DamagedError("an entry reaches over the end of its page")
        (first,) = _NUMBER.unpack_from(page, start)
        needed = (size + 15) // self.page_size + 1
        begin = self._take_page(first)
        if _PAGE.unpack_from(begin)[2] != _OVERFLOW:
            raise DamagedError("a large value is not where its entry says")
        (pages,) = _PAGE_COUNT.unpack_from(begin, 12)
        if pages < needed or first + pages - 1 > self._meta.last_page:
            raise DamagedError("a large value has other pages than its entry says")
        rest = self._pages[first + 1 : first + pages]
        if rest.count(0) != len(rest):
            raise DamagedError("a page is used twice")
        self._pages[first + 1 : first + pages] = bytes((_READ,)) * (pages - 1)
        count.overflow_pages += pages
        return Entry(name, key, first * self.page_size + 16, size, begin[16 : 16 + min(size, MAX_HEAD_BYTES)])

    def _take_page(self, number: int) -> bytes:
        """A page that nobody has taken yet, with its own number on it."""
        if not 2 <= number <= self._meta.last_page:
            raise DamagedError("a page is named that the file has not")
        if self._pages[number]:
            raise DamagedError("a page is used twice")
        page = self.read(number * self.page_size, self.page_size)
        if _NUMBER.unpack_from(page)[0] != number:
            raise DamagedError("a page is not the one that it should be")
        self._pages[number] = _READ
        return page

    def _nodes(self, page: bytes) -> tuple[int, list[tuple[int, int, int, int, int]]]:
        """The page's kind, and each node's place, size or child in three parts, and length of its key."""
        _, _, flags, lower, upper = _PAGE.unpack_from(page)
        if flags not in (_BRANCH, _LEAF) or not 16 <= lower <= upper <= self.page_size or lower % 2:
            raise DamagedError("a page's beginning is damaged")
        places = struct.unpack_from(f"<{(lower - 16) // 2}H", page, 16)
        nodes = []
        for place in places:
            if not upper <= place <= self.page_size - _NODE.size or place % 2:
                raise DamagedError("an entry is outside of its page")
            low, high, node_flags, key_size = _NODE.unpack_from(page, place)
            if key_size > _MAX_KEY_BYTES or place + _NODE.size + key_size > self.page_size:
                raise DamagedError("a key is outside of its page")
            nodes.append((place, low, high, node_flags, key_size))
        if not nodes:
            raise DamagedError("a page is empty")
        return flags, nodes

    def _check_order(self, keys: list[bytes], low: bytes | None, high: bytes | None) -> None:
        if not keys:
            return
        ordered = all(before < after for before, after in pairwise(keys))
        if not ordered or (low is not None and keys[0] < low) or (high is not None and keys[-1] >= high):
            self._damaged("keys are out of order")

    def _check_free_list(self) -> None:
        """Pages to write to next: none of them may be in use, or free twice."""
        last = 0
        for entry in self._walk(_FREE_LIST, self._meta.free):
            if len(entry.key) != _NUMBER.size or entry.size < _NUMBER.size:
                self._damaged("the free list is damaged")
                continue
            (transaction,) = _NUMBER.unpack(entry.key)
            try:
                numbers = struct.unpack(f"<{entry.size // 8}Q", self.read(entry.offset, entry.size // 8 * 8))
            except DamagedError as error:
                self._damaged(str(error))
                continue
            listed = numbers[1 : 1 + numbers[0]]
            if len(listed) != numbers[0] or not last < transaction <= self._meta.transaction:
                self._damaged("the free list is damaged")
            last = transaction
            before = self._meta.last_page + 1
            for number in listed:
                if not 2 <= number < before or self._pages[number]:
                    self._damaged("the free list names a page that is in use, or none")
                    break
                self._pages[number] = _FREE
                before = number


def _tree(fields: tuple[int, ...]) -> _Tree:
    _, flags, depth, branch_pages, leaf_pages, overflow_pages, entries, root = fields
    return _Tree(flags, depth, branch_pages, leaf_pages, overflow_pages, entries, root)


def _node_key(page: bytes, node: tuple[int, int, int, int, int]) -> bytes:
    start = node[0] + _NODE.size
    return page[start : start + node[4]]
