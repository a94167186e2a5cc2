"""What each command promises to a person and to a script: exit codes, one clear sentence, an example."""

import hashlib
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.schema import json_schema
from tests.support.gateway import Gateway

ROOT = Path(__file__).parents[2]


def command(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def every_command(group: TyperGroup, *path: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, inner in group.commands.items():
        found += every_command(inner, *path, name) if isinstance(inner, TyperGroup) else [(*path, name)]
    return found


COMMANDS = every_command(get_command(app))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_shows_an_example_that_its_options_allow(path: tuple[str, ...]) -> None:
    code, out, _ = command(*path, "--help")
    assert code == 0
    example = re.search(r"Example:\s+gateway " + " ".join(path) + "(.*)", out)
    assert example, out
    for option in re.findall(r"(?:^|\s)(--?[a-z][a-z-]*)", example[1].partition(" && ")[0]):
        assert option in re.split("Options:|Example:", out)[1], f"{option} is no option"


def test_without_arguments_the_way_in_is_shown() -> None:
    code, out, err = command()
    assert code == 2
    assert "gateway demo" in out + err


BROKEN = """\
listen: {grpc: nonsense}
queue: {max_bytes: 3 parsecs}
destinations:
  disk: {type: file, path: ./out}
  disk: {type: file, path: ./again}
tenants:
  acme:
    api_kyes: []
    api_keys: [{id: k, sha256: short}]
"""


def test_check_names_every_error_at_once_with_line_and_hint(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(BROKEN)
    code, out, _ = command("check", "-c", path)
    assert code == 2
    assert [line.removeprefix(f"✗ {path}:") for line in out.splitlines()] == [
        "1:10 listen.grpc: write an address as HOST:PORT, such as 127.0.0.1:4317 or [::1]:4317",
        "2:9 queue.max_bytes: write a value like 64MiB; the units are b, kb, mb, gb, kib, mib, gib, tib",
        "5:3 destinations.disk: key 'disk' stands here again; it stands already on line 4",
        "8:5 tenants.acme.api_kyes: unknown key; did you mean api_keys?",
        "9:24 tenants.acme.api_keys[0].sha256: must be 64 hexadecimal digits; `gateway keys new` prints them",
    ]


def test_check_speaks_json_to_editors(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(BROKEN)
    code, out, _ = command("check", "-c", path, "--format", "json")
    assert code == 2
    first, *rest = [json.loads(line) for line in out.splitlines()]
    assert (first["file"], first["line"], first["path"], first["severity"]) == (str(path), 1, "listen.grpc", "error")
    assert len(rest) == 4


def test_check_refuses_a_format_that_it_does_not_speak() -> None:
    code, _, err = command("check", "--format", "xml")
    assert code == 2
    assert "xml" in err


CANNOT_READ = [
    ("nothing.yaml", None, "cannot read it: No such file or directory"),
    (".", None, "cannot read it: Is a directory"),
    ("latin1.yaml", b"tenants: {\xe9: {}}", "it is not UTF-8 text"),
    ("empty.yaml", b"# nothing yet\n", "it is empty; `gateway init` writes one to start from"),
]


@pytest.mark.parametrize("which", ["check", "run"])
@pytest.mark.parametrize(("name", "content", "message"), CANNOT_READ)
def test_a_file_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, which: str, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    code, out, err = command(which, "-c", path)
    assert code == 2
    assert (out + err).strip() == f"✗ {path}:1:1: {message}"


def test_warnings_fail_the_check_only_if_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATEWAY_ADMIN_TOKEN", raising=False)
    assert command("init")[0] == 0
    code, out, _ = command("check", "-c", "gateway.yaml")
    assert code == 0
    warning, verdict = out.splitlines()
    assert warning.startswith("! gateway.yaml:8:1 admin: its credential is empty")
    assert verdict == "✓ gateway.yaml: 1 tenants, 1 destinations"
    assert command("check", "-c", "gateway.yaml", "--deny-warnings")[0] == 2
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "a token")
    assert command("check", "-c", "gateway.yaml", "--deny-warnings")[0] == 0


def test_init_shows_a_key_whose_hash_it_wrote_and_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    code, out, _ = command("init", path)
    assert code == 0
    key = out.partition("shown this once:")[2].split()[0]
    written = path.read_text()
    assert key not in written
    assert yaml.safe_load(written)["tenants"]["acme"]["api_keys"][0]["sha256"] == sha256(key)
    code, _, err = command("init", path)
    assert (code, path.read_text()) == (2, written)
    assert err == f"{path} exists; name another file, or overwrite it with --force\n"
    assert command("init", path, "--force")[0] == 0
    assert path.read_text() != written


def test_init_says_where_it_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "no" / "folder.yaml"
    assert command("init", path) == (2, "", f"cannot write {path}: No such file or directory\n")


def test_a_new_key_is_ready_to_paste_and_known_by_its_hash_only(tmp_path: Path) -> None:
    code, out, _ = command("keys", "new", "--tenant", "globex")
    assert code == 0
    shown, _, snippet = out.partition("for the configuration:\n")
    key = shown.split()[-1]
    assert key not in snippet
    assert yaml.safe_load(snippet)["tenants"]["globex"]["api_keys"][0]["sha256"] == sha256(key)
    path = tmp_path / "gateway.yaml"
    path.write_text("destinations: {d: {type: file, path: ./out}}\n" + snippet)
    assert command("check", "-c", path)[0] == 0
    assert command("keys", "new")[1] != out, "every key is another"


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_schema_prints_the_committed_schema() -> None:
    assert command("schema") == (0, (ROOT / "config" / "schema.json").read_text(), "")
    assert json.loads(json_schema())["$schema"].startswith("https://json-schema.org/")


def test_health_of_nobody_is_exit_code_1() -> None:
    code, out, err = command("health", "--url", "http://127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err.startswith("not ready: ")
    assert command("health", "--url", "nonsense")[0] == 1


def test_health_asks_past_a_proxy(monkeypatch: pytest.MonkeyPatch, gateway: Gateway) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setattr("urllib.request._opener", None)  # made once, from the environment of that moment
    code, out, err = command("health", "--url", gateway.admin_url)
    assert (code, err) == (0, "")
    assert json.loads(out)["ready"] is True


def test_a_reader_that_goes_away_is_no_error() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "gateway", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == ""
    child.stderr.close()
    child.wait()


BAD_SENDS = [
    (("send", "profiles"), "signal is traces, metrics or logs; protocol is grpc or http"),
    (("send", "--protocol", "carrier-pigeon"), "signal is traces, metrics or logs; protocol is grpc or http"),
    (("sink", "--store", "/no/such/folder/x.jsonl"), "cannot write /no/such/folder/x.jsonl: No such file or directory"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_SENDS)
def test_what_cannot_be_tried_is_exit_code_2_and_one_sentence(arguments: tuple[str, ...], message: str) -> None:
    assert command(*arguments) == (2, "", f"{message}\n")


@pytest.mark.parametrize("option", ["--http-port", "--grpc-port"])
def test_a_port_of_the_sink_in_use_is_one_sentence(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = "--grpc-port" if option == "--http-port" else "--http-port"
        code, out, err = command("sink", option, port, other, 0)
    assert (code, out, err) == (2, "", f"cannot listen on 127.0.0.1:{port}: address already in use\n")
