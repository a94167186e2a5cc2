"""Which changes of the TLS files are taken, and which are told."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.config.tls import ListenTls
from gateway.tls_files import TlsFiles, TlsMaterial, read
from gateway.types import TlsReloads


class Engine:
    """Takes what does not say `bad`."""

    def __init__(self) -> None:
        self.used: list[TlsMaterial] = []

    def use(self, material: TlsMaterial) -> None:
        if b"bad" in material["certificate"]:
            raise ValueError("cert_file: it is bad")
        self.used.append(material)


@pytest.fixture
def tls(tmp_path: Path) -> ListenTls:
    files = {name: tmp_path / name for name in ("cert_file", "key_file", "client_ca_file", "crl_file")}
    for name, path in files.items():
        path.write_text(name)
    return ListenTls(client_auth="request", **files)


def watched(tls: ListenTls, engine: Engine, reloads: TlsReloads) -> TlsFiles:
    return TlsFiles("listen.tls", tls, lambda: engine.use(read(tls)), reloads)


async def test_what_is_read_is_handed_over_once(tls: ListenTls) -> None:
    engine, reloads = Engine(), TlsReloads()
    files = watched(tls, engine, reloads)
    files.load()
    await files.refresh()
    assert engine.used == [
        {
            "certificate": b"cert_file",
            "private_key": b"key_file",
            "client_ca": b"client_ca_file",
            "crl": b"crl_file",
            "require_client_certificate": False,
        }
    ]
    assert reloads == TlsReloads()


def change(path: Path, text: str, *, replace: bool) -> None:
    """To a text of the same length."""
    if replace:
        path.unlink()
    path.write_text(text)


@pytest.mark.parametrize("name", ["cert_file", "key_file", "client_ca_file", "crl_file"])
@pytest.mark.parametrize("replace", [True, False], ids=["replaced", "rewritten"])
async def test_a_change_of_any_file_is_taken(tls: ListenTls, name: str, replace: bool) -> None:
    engine, reloads = Engine(), TlsReloads()
    files = watched(tls, engine, reloads)
    files.load()
    change(getattr(tls, name), name.upper(), replace=replace)
    await files.refresh()
    assert name.upper().encode() in engine.used[-1].values()
    assert reloads == TlsReloads(successful=True, succeeded=1)


async def test_a_bad_file_is_told_at_the_second_look_and_once(tls: ListenTls) -> None:
    engine, reloads = Engine(), TlsReloads()
    files = watched(tls, engine, reloads)
    files.load()
    for text in ("bad", "worse, bad"):
        tls.cert_file.write_text(text)
        with capture_logs() as first:
            await files.refresh()
        assert first == []
        with capture_logs() as later:
            await files.refresh()
            await files.refresh()
        assert [entry["event"] for entry in later] == [
            "the TLS files were not reloaded; the old ones stay in use: listen.tls.cert_file: it is bad"
        ]
    assert reloads == TlsReloads(successful=False, failed=2)
    assert len(engine.used) == 1
    tls.cert_file.write_text("good")
    await files.refresh()
    assert reloads == TlsReloads(successful=True, succeeded=1, failed=2)


async def test_a_pair_that_is_half_written_is_not_news(tls: ListenTls) -> None:
    engine, reloads = Engine(), TlsReloads()
    files = watched(tls, engine, reloads)
    files.load()
    with capture_logs() as logs:
        tls.cert_file.write_text("bad")
        await files.refresh()
        tls.cert_file.write_text("good, later")
        await files.refresh()
    assert [entry["log_level"] for entry in logs] == ["info"]
    assert reloads == TlsReloads(successful=True, succeeded=1)


async def test_a_file_that_is_gone_leaves_the_old_one_in_use(tls: ListenTls) -> None:
    engine, reloads = Engine(), TlsReloads()
    files = watched(tls, engine, reloads)
    files.load()
    tls.key_file.unlink()
    with capture_logs() as logs:
        await files.refresh()
        await files.refresh()
    assert logs[0]["event"].endswith(f"listen.tls.key_file: cannot read {tls.key_file}: No such file or directory")
    assert not reloads.successful
