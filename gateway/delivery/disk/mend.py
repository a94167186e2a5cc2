"""What a start does with the file that it finds: look at it, and make it anew if it is damaged."""

import dataclasses
from pathlib import Path

import lmdb
import structlog

from gateway.delivery.disk.frame import NewerFrameError
from gateway.delivery.disk.pages import DamagedError
from gateway.delivery.disk.progress import FormerRun
from gateway.delivery.disk.rebuild import DATA_FILE, Rebuilt, finish_replacement, rebuild
from gateway.delivery.disk.sealing import DataKeys, SealingError
from gateway.delivery.disk.survey import NewerQueueError, Survey, survey

log = structlog.get_logger(__name__)

# So many runs in a row that ended within a minute, inside of LMDB: the file is made anew, however sound it looks.
MAX_STRIKES = 3


class BeyondMendingError(Exception):
    """It cannot be made anew, or what was made anew is damaged again: the disk is full, or cannot be relied on."""


def look(folder: Path, map_size: int, former: FormerRun, keys: DataKeys | None) -> tuple[Survey, Rebuilt | None]:
    """What the file holds, and what came of making it anew, if that was needed.

    Raises BeyondMendingError, and what `survey` and `rebuild` raise.
    """
    file = folder / DATA_FILE
    if not file.exists() or file.stat().st_size == 0:
        return Survey(epoch=former.epoch), None
    if former.damaged:
        return make_anew(folder, map_size, former, keys, "LMDB found it damaged", search=True)
    try:
        found = survey(file, former)
    except DamagedError as error:
        return make_anew(folder, map_size, former, keys, str(error), search=True)
    if former.strikes >= MAX_STRIKES:
        # Its tree is sound, so that it leads to all that there is; and so it may stay, if there is no room for another.
        try:
            return make_anew(folder, map_size, former, keys, "the last runs ended inside of it", search=False)
        except BeyondMendingError as error:
            log.warning("the queue's file stays, though the last runs ended inside of it", error=str(error))
    return found, None


def make_anew(
    folder: Path, map_size: int, former: FormerRun, keys: DataKeys | None, reason: str, *, search: bool
) -> tuple[Survey, Rebuilt]:
    """Replace the file by what can be read of it, and look again. Raises BeyondMendingError, NewerFrameError."""
    try:
        rebuilt = rebuild(folder, map_size, former, keys, search=search)
    except (lmdb.Error, OSError) as error:
        # What is left of the attempt would only take the room that the next one needs.
        finish_replacement(folder)
        raise BeyondMendingError(f"{reason}; there must be room for a second file: {error}") from error
    log.error(
        "the queue's file is made anew from what could be read, and the old one is set aside",
        reason=reason,
        records=rebuilt.records,
        items=rebuilt.items,
        found_by_search=rebuilt.searched_out,
        corrupt_records=rebuilt.corrupt,
        fragments=rebuilt.fragments,
        file=None if rebuilt.aside is None else rebuilt.aside.name,
    )
    try:
        # LMDB counts its commits anew in the new file.
        return survey(folder / DATA_FILE, dataclasses.replace(former, transaction=0)), rebuilt
    except DamagedError as error:
        raise BeyondMendingError(f"it is damaged again: {error}") from error


def why_not(folder: Path, error: BaseException) -> str | None:
    """What to say about a start that failed; None for what nobody thought of."""
    match error:
        case lmdb.Error() | OSError() | RuntimeError():
            return f"cannot open the queue in {folder}: {error}"
        case SealingError():
            return str(error)
        case BeyondMendingError():
            return (
                f"the queue in {folder} is damaged and cannot be mended: {error}; mend that, or name another queue.dir"
            )
        case NewerQueueError(args=(version,)):
            return (
                f"the queue in {folder} was written by a newer version (format {version}); "
                "run that version, or name another queue.dir"
            )
        case NewerFrameError():
            return (
                f"the queue in {folder} holds a record of nobody ({error}); was it written by a newer "
                "version? Run that version, or name another queue.dir"
            )
    return None
