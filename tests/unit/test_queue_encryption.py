"""Encryption at rest: what lies on disk tells nothing, and deleting a tenant's key deletes its backlog."""

import base64
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.encryption import QueueEncryption, parse_wrapping_key
from gateway.config.models import Queue
from gateway.delivery.disk import sealing
from gateway.delivery.queue import DurableQueue, QueueError, QueueWriteError, Stored
from gateway.delivery.record import KeyDeletedError
from tests.support.queue import config, payload, payloads, read_all, record, shard

KEY, OTHER = "ab" * 32, "cd" * 32
SECRET = b"a patient's name, which is nobody's business"
ACME, GLOBEX = shard("acme"), shard("globex")


def encrypted(folder: Path, key: str = KEY, **settings: object) -> Queue:
    return config(folder / "queue", encryption={"key": key, **settings})


def plain(folder: Path) -> Queue:
    return config(folder / "queue")


def put(queue: DurableQueue, *contents: bytes, where: object = None, first: int = 0) -> None:
    shards = where or ACME
    queue.commit(
        [(queue.first_sequence + first + n, record(shards, content)) for n, content in enumerate(contents)],  # type: ignore[arg-type]
        [],
    )


def on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted((folder / "queue").rglob("*")) if file.is_file())


def test_what_lies_on_disk_does_not_hold_what_was_sent(tmp_path: Path) -> None:
    queue = DurableQueue.open(encrypted(tmp_path))
    put(queue, SECRET, SECRET)
    queue.close()
    assert SECRET not in on_disk(tmp_path)
    queue = DurableQueue.open(encrypted(tmp_path))
    assert payloads(queue, ACME) == [SECRET, SECRET]
    assert queue.backlog()[ACME].size == 2 * len(SECRET)
    queue.close()


def test_without_the_section_it_would(tmp_path: Path) -> None:
    queue = DurableQueue.open(plain(tmp_path))
    put(queue, SECRET)
    queue.close()
    assert SECRET in on_disk(tmp_path)


def test_one_payload_never_looks_the_same_twice(tmp_path: Path) -> None:
    queue = DurableQueue.open(encrypted(tmp_path))
    put(queue, payload(1, 64), payload(1, 64))
    with queue._records.environment.begin(db=queue._records.records) as transaction:
        frames = [frame for _, frame in transaction.cursor()]
    queue.close()
    assert frames[0][-80:] != frames[1][-80:]


def test_data_keys_are_files_that_only_the_gateway_reads(tmp_path: Path) -> None:
    queue = DurableQueue.open(encrypted(tmp_path))
    put(queue, b"x")
    put(queue, b"x", where=shard("wild*(tenant)'!"))
    queue.close()
    folder = tmp_path / "queue" / "keys"
    assert sorted(file.name for file in folder.iterdir()) == ["acme.key", "wild*(tenant)'!.key"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("tells", [True, False])
def test_many_new_tenants_get_their_keys_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tells: bool) -> None:
    monkeypatch.setattr(sealing, "_SYNCFS_TELLS", tells)
    tenants = [shard(f"tenant{number}") for number in range(20)]
    queue = DurableQueue.open(encrypted(tmp_path))
    queue.commit([(queue.first_sequence, record(where, SECRET)) for where in tenants], [])
    queue.close()
    assert len(list((tmp_path / "queue" / "keys").glob("*.key"))) == 20
    former = tmp_path / "former.key"
    former.write_text(KEY)
    for settings in (encrypted(tmp_path, OTHER, previous_key_files=[str(former)]), encrypted(tmp_path, OTHER)):
        queue = DurableQueue.open(settings)
        assert all(payloads(queue, where) == [SECRET] for where in tenants)
        queue.close()


def test_keys_that_do_not_go_to_disk_refuse_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_folder: Path) -> None:
        raise OSError(28, "No space left on device")

    queue = DurableQueue.open(encrypted(tmp_path))
    monkeypatch.setattr(sealing, "_SYNCFS_TELLS", True)
    monkeypatch.setattr(sealing, "_sync_file_system", full)
    puts = [(queue.first_sequence, record(shard(f"tenant{number}"), SECRET)) for number in range(20)]
    with pytest.raises(QueueWriteError, match="No space left on device"):
        queue.commit(puts, [])
    monkeypatch.undo()
    queue.commit(puts, [])
    assert payloads(queue, shard("tenant7")) == [SECRET]
    queue.close()


def test_another_key_is_refused_clearly_and_shown_nowhere(tmp_path: Path) -> None:
    queue = DurableQueue.open(encrypted(tmp_path))
    put(queue, SECRET)
    queue.close()
    with pytest.raises(
        QueueError, match=r"another key than the one that wrapped .*acme\.key.*previous_key_files"
    ) as raised:
        DurableQueue.open(encrypted(tmp_path, OTHER))
    assert OTHER not in str(raised.value)
    queue = DurableQueue.open(encrypted(tmp_path))
    assert payloads(queue, ACME) == [SECRET]
    queue.close()


def test_a_new_key_takes_over_what_the_former_one_wrapped(tmp_path: Path) -> None:
    queue = DurableQueue.open(encrypted(tmp_path))
    put(queue, SECRET)
    queue.close()
    former = tmp_path / "former.key"
    former.write_text(KEY)
    queue = DurableQueue.open(encrypted(tmp_path, OTHER, previous_key_files=[str(former)]))
    assert payloads(queue, ACME) == [SECRET]
    queue.close()
    # From now on it does without.
    queue = DurableQueue.open(encrypted(tmp_path, OTHER))
    assert payloads(queue, ACME) == [SECRET]
    queue.close()
    with pytest.raises(QueueError, match="another key"):
        DurableQueue.open(encrypted(tmp_path, KEY))


def test_a_data_key_under_the_name_of_another_tenant_is_refused(tmp_path: Path) -> None:
    queue = DurableQueue.open(encrypted(tmp_path))
    put(queue, SECRET)
    queue.close()
    folder = tmp_path / "queue" / "keys"
    (folder / "acme.key").rename(folder / "globex.key")
    with pytest.raises(QueueError, match=r"globex\.key is not a data key of this version"):
        DurableQueue.open(encrypted(tmp_path))


def test_encryption_begins_and_ends_with_a_backlog(tmp_path: Path) -> None:
    queue = DurableQueue.open(plain(tmp_path))
    put(queue, b"in the clear")
    queue.close()
    queue = DurableQueue.open(encrypted(tmp_path))
    put(queue, SECRET)
    assert payloads(queue, ACME) == [b"in the clear", SECRET]
    queue.close()
    with pytest.raises(QueueError, match=r"holds encrypted records; configure queue\.encryption .* `write: false`"):
        DurableQueue.open(plain(tmp_path))
    queue = DurableQueue.open(encrypted(tmp_path, write=False))
    put(queue, b"in the clear again")
    expected = [b"in the clear", SECRET, b"in the clear again"]
    assert payloads(queue, ACME) == expected
    queue.commit([], [(ACME, found.sequence) for found in read_all(queue, ACME) if isinstance(found, Stored)])
    queue.close()
    DurableQueue.open(plain(tmp_path)).close()


def test_a_record_whose_key_was_deleted_is_told_from_a_corrupt_one(tmp_path: Path) -> None:
    queue = DurableQueue.open(encrypted(tmp_path))
    put(queue, SECRET)
    put(queue, b"of globex", where=GLOBEX)
    queue.close()
    (tmp_path / "queue" / "keys" / "acme.key").unlink()
    queue = DurableQueue.open(encrypted(tmp_path))
    (found,) = read_all(queue, ACME)
    assert isinstance(found, KeyDeletedError)
    assert (found.items, found.args[1], found.args[2]) == (3, (1 << 40), len(SECRET))
    assert payloads(queue, GLOBEX) == [b"of globex"]
    # The tenant goes on with a key of its own, which opens nothing of before.
    put(queue, b"new", first=1)
    assert payloads(queue, ACME) == [b"new"]
    queue.close()


def moved(queue: DurableQueue, source: bytes, target: bytes) -> None:
    with queue._records.environment.begin(db=queue._records.records, write=True) as transaction:
        cursor = transaction.cursor()
        cursor.first()
        pairs = [(bytes(key), bytes(frame)) for key, frame in cursor]
        for key, frame in pairs:
            if source in key:
                transaction.put(key.replace(source, target), frame)


def test_a_record_that_was_moved_to_another_tenant_is_not_opened_for_it(tmp_path: Path) -> None:
    queue = DurableQueue.open(encrypted(tmp_path))
    put(queue, SECRET)
    put(queue, b"of globex", where=GLOBEX)
    moved(queue, b"acme", b"globex")
    assert payloads(queue, GLOBEX) == []
    queue.close()


def forget(folder: Path, tenant: str, key: str | None = KEY) -> tuple[int, str, str]:
    file = folder / "gateway.yaml"
    encryption = "" if key is None else f", encryption: {{key: {key}}}"
    file.write_text(
        "destinations: {backend: {type: loki, url: http://127.0.0.1:3100/loki/api/v1/push}}\n"
        f"queue: {{dir: {folder / 'queue'}, max_bytes: 256MiB{encryption}}}\n"
        "tenants: {acme: {}}\n"
    )
    result = CliRunner().invoke(app, ["queue", "forget", tenant, "-c", str(file)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("key", [KEY, None])
def test_forget_deletes_a_tenants_backlog_and_nobody_elses(tmp_path: Path, key: str | None) -> None:
    settings = plain(tmp_path) if key is None else encrypted(tmp_path, key)
    queue = DurableQueue.open(settings)
    put(queue, SECRET, payload("large", 50_000))
    put(queue, b"of globex", where=GLOBEX)
    put(queue, b"of another acme", where=shard("acme2"))
    queue.quarantine(ACME, queue.first_sequence)
    queue.close()
    code, out, _ = forget(tmp_path, "acme", key)
    assert (code, out) == (0, f"forgot acme: {'' if key is None else 'its data key, and '}1 records\n")
    found = on_disk(tmp_path)
    assert b"acme\0" not in found
    assert SECRET not in found
    assert payload("large", 50_000)[:1000] not in found
    queue = DurableQueue.open(settings)
    assert (payloads(queue, ACME), payloads(queue, GLOBEX)) == ([], [b"of globex"])
    assert payloads(queue, shard("acme2")) == [b"of another acme"]
    queue.close()


def test_forget_names_what_it_cannot_reach(tmp_path: Path) -> None:
    DurableQueue.open(plain(tmp_path)).close()
    (tmp_path / "queue" / "data.mdb.corrupt-20261125T070000Z").touch()
    code, out, error = forget(tmp_path, "acme", None)
    assert (code, out) == (0, "forgot acme: 0 records\n")
    assert "data.mdb.corrupt-20261125T070000Z is a damaged file" in error


def test_forget_leaves_a_running_gateway_alone(tmp_path: Path) -> None:
    queue = DurableQueue.open(encrypted(tmp_path))
    put(queue, SECRET)
    code, _, error = forget(tmp_path, "acme")
    assert code == 1
    assert "another gateway uses the queue" in error
    assert payloads(queue, ACME) == [SECRET]
    queue.close()


def test_forget_says_what_is_wrong_with_its_input(tmp_path: Path) -> None:
    code, _, error = forget(tmp_path, "acme")
    assert (code, error) == (1, f"there is no queue in {tmp_path / 'queue'}\n")
    assert CliRunner().invoke(app, ["queue", "forget", "acme", "-c", str(tmp_path / "none")]).exit_code == 2


def test_a_key_may_be_written_as_hex_or_base64() -> None:
    raw = bytes(range(200, 232))
    for written in (
        raw.hex(),
        raw.hex().upper() + "\n",
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
    ):
        assert parse_wrapping_key(written.encode()) == raw


@pytest.mark.parametrize("written", ["", "short", "a plain text of exactly 32 chars", "ab" * 31, "ab" * 33])
def test_a_key_that_is_none_is_refused_without_showing_it(written: str) -> None:
    with pytest.raises(ValidationError, match="32 bytes as hex or base64; `openssl rand -base64 32`") as raised:
        QueueEncryption.model_validate({"key": written})
    assert not written or written not in str(raised.value)


@pytest.mark.parametrize("settings", [{}, {"key": KEY, "key_file": "x"}])
def test_exactly_one_key_is_named(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="name key or key_file, one of them"):
        QueueEncryption.model_validate(settings)


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    settings = config(tmp_path / "queue", encryption={"key_file": str(tmp_path / "none")})
    with pytest.raises(QueueError, match=r"queue\.encryption: cannot read .*none: No such file"):
        DurableQueue.open(settings)


def test_the_key_is_in_no_repr() -> None:
    assert KEY not in repr(QueueEncryption.model_validate({"key": KEY}))


def test_a_folder_that_cannot_be_written_refuses_the_batch_and_keeps_the_queue(tmp_path: Path) -> None:
    queue = DurableQueue.open(encrypted(tmp_path))
    keys = tmp_path / "queue" / "keys"
    keys.rmdir()
    keys.write_text("a file in its place")
    with pytest.raises(Exception, match="Not a directory"):
        put(queue, SECRET)
    assert payloads(queue, ACME) == []
    keys.unlink()
    keys.mkdir()
    put(queue, SECRET)
    assert payloads(queue, ACME) == [SECRET]
    queue.close()
