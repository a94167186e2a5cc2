"""What systemd, or whoever set NOTIFY_SOCKET, is told."""

import socket
from pathlib import Path

import pytest

from gateway.systemd import notify


@pytest.mark.parametrize("name", ["{folder}/notify", "{folder}/notify@1", "@gateway-tests-{folder}"])
def test_states_reach_the_socket_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    address = name.format(folder=tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        systemd.settimeout(5)
        notify("RELOADING=1", "MONOTONIC_USEC=7")
        assert systemd.recv(1000) == b"RELOADING=1\nMONOTONIC_USEC=7"


def test_nobody_listening_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/no/such/socket")
    notify("READY=1")
