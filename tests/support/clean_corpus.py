"""Seeded strings of telemetry in which nothing is secret: what masking must leave alone."""

# ruff: noqa: E501 - lines of logs are as long as they are

import base64
import string
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random
from urllib.parse import quote

from tests.support.secrets_corpus import DIGITS, HEX, chars

Make = Callable[[Random], str]
WORDS = (
    "api cart checkout order payment user invoice stock search worker queue cache batch report export login image mail "
    "event session stream index shard node proxy gateway ledger billing catalog profile review shipping backend"
)
_WORDS = tuple(WORDS.split())
_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def word(random: Random) -> str:
    return random.choice(_WORDS)


def words(random: Random, separator: str, count: int = 3) -> str:
    return separator.join(random.choices(_WORDS, k=count))


def hexadecimal(random: Random, count: int) -> str:
    return chars(random, HEX, count)


def moment(random: Random) -> datetime:
    return datetime.fromtimestamp(random.randrange(1_500_000_000, 1_900_000_000), UTC)


def uuid(random: Random) -> str:
    return "-".join(hexadecimal(random, count) for count in (8, 4, 4, 4, 12))


def version(random: Random) -> str:
    return f"{random.randrange(30)}.{random.randrange(40)}.{random.randrange(100)}"


def date(random: Random) -> str:
    at = moment(random)
    zone = random.choice(["Z", "+02:00", "+0530", "-08:00", ""])
    return random.choice(
        [
            at.strftime("%Y-%m-%dT%H:%M:%S") + f".{random.randrange(10**6):06}{zone}",
            at.strftime("%Y-%m-%d %H:%M:%S"),
            at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            at.strftime("%Y/%m/%d"),
            at.strftime("%H:%M:%S"),
            at.strftime("%Y%m%d%H%M%S"),
            format_datetime(at),
            at.strftime("%Y-%m-%d"),
            at.strftime("%d.%m.%Y"),
            at.strftime("%Y-%m-%dT%H:%M:%S") + zone,
            at.strftime("%a %b %d %H:%M:%S %Y"),
            at.strftime("%Y%m%dT%H%M%SZ"),
            at.strftime("%m-%d-%Y %H-%M-%S"),
        ]
    )


def epoch(random: Random) -> str:
    seconds = random.randrange(1_500_000_000, 1_900_000_000)
    return str(seconds * random.choice([1, 10**3, 10**6, 10**9]) + random.randrange(1000))


def release(random: Random) -> str:
    plain = version(random)
    return random.choice(
        [
            plain,
            f"v{plain}",
            f"v{plain}.{random.randrange(5000)}",
            f"{plain}-rc.{random.randrange(9)}+build.{random.randrange(999)}",
            f"go1.{random.randrange(16, 27)}.{random.randrange(9)}",
            f"Python/3.{random.randrange(8, 15)}",
            f"^{plain}",
            f">={plain}",
            f"{word(random)}@{plain}",
            f"{word(random)}-{plain}.jar",
        ]
    )


def amount(random: Random) -> str:
    number = f"{random.randrange(1, 10**6):,}.{random.randrange(100):02}"
    return random.choice(
        [
            f"${number}",
            f"{number} EUR",
            f"USD {number}",
            f"{random.random() * 1000:.12f}",
            f"{random.randrange(1000)}%",
            f"-{number}",
            f"{random.random():.6e}",
            f"1.{random.randrange(10**6)}e+{random.randrange(10, 99)}",
            f"x+{random.randrange(10**8)}",
        ]
    )


def kubernetes_name(random: Random) -> str:
    suffix = chars(random, "bcdfghjklmnpqrstvwxz2456789", 5)
    return random.choice(
        [
            f"{words(random, '-', 2)}-{chars(random, 'bcdf2456789', 10)}-{suffix}",
            f"{word(random)}-{random.randrange(12)}",
            f"gke-{word(random)}-pool-1-{hexadecimal(random, 8)}-{suffix[:4]}",
            f"{words(random, '-', 2)}-system",
            f"{word(random)}.{word(random)}.svc.cluster.local",
            f"pod/{words(random, '-', 2)}-{suffix}",
            f"i-{hexadecimal(random, 17)}",
            f"{words(random, '-', 2)}-{random.randrange(27_000_000, 29_999_999)}-{suffix}",
            f"kube-api-access-{suffix}",
        ]
    )


def image(random: Random) -> str:
    name = f"registry.example.com/{word(random)}/{word(random)}"
    return random.choice(
        [
            f"{name}:{version(random)}",
            f"{name}@sha256:{hexadecimal(random, 64)}",
            f"{name}:{hexadecimal(random, 7)}",
            f"docker-pullable://{name}@sha256:{hexadecimal(random, 64)}",
            f"containerd://{hexadecimal(random, 64)}",
        ]
    )


def quantity(random: Random) -> str:
    number = random.randrange(1, 10 ** random.randrange(1, 8))
    return random.choice(
        [
            f"{number}ms",
            f"{number / 1000:.3f}s",
            f"{number}us",
            f"{random.randrange(24)}h{random.randrange(60)}m{random.randrange(60)}s",
            f"PT{random.randrange(60)}M{random.randrange(60)}S",
            f"{number}KiB",
            f"{number}MB",
            f"{number / 7:.2f} GiB",
            f"{number} bytes",
            f"{random.randrange(100)}d {random.randrange(24):02}:{random.randrange(60):02}:{random.randrange(60):02}",
            f"{number}m",
            f"{number}Mi",
        ]
    )


def metric(random: Random) -> str:
    name = words(random, "_")
    return random.choice(
        [
            f"{name}_total",
            f"{name}_seconds_bucket",
            words(random, "."),
            f'{name}{{job="{word(random)}",le="{random.random():.3f}"}} {epoch(random)}',
            f'{{app="{word(random)}",pod="{kubernetes_name(random)}"}}',
            f"{name}::{word(random)}",
            f"sum(rate({name}_total[5m])) by (job)",
        ]
    )


def url(random: Random) -> str:
    identifier = random.choice(
        [uuid(random), hexadecimal(random, 24), str(random.randrange(10**9)), words(random, "-")]
    )
    path = f"/{word(random)}/{identifier}/{word(random)}"
    return random.choice(
        [
            f"https://{word(random)}.example.com{path}",
            f"http://localhost:{random.randrange(1024, 65536)}{path}",
            path,
            f"GET {path}?page={random.randrange(99)}&size=50&sort=created_at,desc HTTP/1.1",
            quote(path, safe=""),
            f"{path}?from={quote(moment(random).isoformat(), safe='')}&q={quote(words(random, ' '))}",
            f"s3://{word(random)}/{path[1:]}.parquet",
            f"https://{word(random)}.example.com:8443/@{word(random)}",
            f"/{word(random)}/{{id}}",
            f"/api/v{random.randrange(4)}{path}",
        ]
    )


def code_place(random: Random) -> str:
    a, b, line = word(random), word(random), random.randrange(1, 3000)
    return random.choice(
        [
            f"{a}/{b}.go:{line}",
            f"at com.example.{a}.{b.title()}Service.handle({b.title()}Service.java:{line})",
            f"{a}.py:{line}",
            f'File "/app/{a}/{b}.py", line {line}, in {a}_{b}',
            f"at {a}.{b} (/srv/app/dist/{a}.js:{line}:{line % 97})",
            f"goroutine {line} [running]:\nmain.{a}(0xc000{hexadecimal(random, 6)}, 0x{hexadecimal(random, 2)})\n\t/src/{a}.go:{line} +0x{hexadecimal(random, 3)}",
            f"   {line % 40}: {a}::{b}::{{closure#0}}\n             at ./src/{a}.rs:{line}:{line % 80}",
            f"std::vec::Vec<{a}::{b.title()}>",
            f"std::unordered_map<std::string, {a}::{b}>",
            f"{b.title()}Exception: {a} failed",
            f"core::ops::function::FnOnce::call_once::h{hexadecimal(random, 16)}",
            f"C:\\Program Files\\{a.title()}\\{b}.exe",
            f"\\\\server\\share\\{a}\\{b}_{line}.log",
            f"/var/lib/{a}/{b}-{line}.db",
            f"{a.title()}${b.title()}@{hexadecimal(random, 8)}",
            f"System.NullReferenceException at {a.title()}.{b.title()}.Run() in D:\\a\\1\\s\\{a}.cs:line {line}",
        ]
    )


def user_agent(random: Random) -> str:
    major = random.randrange(80, 140)
    return random.choice(
        [
            f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{major} Safari/537.36",
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_{major % 7} like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
            f"Mozilla/5.0 (X11; Linux x86_64; rv:{major}.0) Gecko/20100101 Firefox/{major}.0",
            f"curl/{version(random)}",
            f"okhttp/{version(random)}",
            f"kube-probe/1.{major % 30}",
            f"OTel-OTLP-Exporter-Python/{version(random)}",
            f"python-requests/{version(random)}",
            f"Prometheus/{version(random)}",
            f"grpc-go/{version(random)}",
        ]
    )


def sql(random: Random) -> str:
    a, b = word(random), word(random)
    return random.choice(
        [
            f"SELECT id, {a}_id, created_at FROM {b} WHERE {a}_id = $1 AND state = 'open' LIMIT {random.randrange(1000)}",
            f"INSERT INTO {a} ({b}, n) VALUES (?, ?, {random.randrange(10**6)})",
            f"UPDATE {a} SET {b} = {random.randrange(10**9)} WHERE id = %s",
            f"select * from {a} where at > '{moment(random):%Y-%m-%d}' and id in ({random.randrange(10**8)}, {random.randrange(10**8)})",
            f"DELETE FROM {a} WHERE id = '{uuid(random)}'",
            f'SELECT "{a}"::text FROM {b}',
            f"HGETALL {a}:{random.randrange(10**7)}",
        ]
    )


def log_line(random: Random) -> str:
    a, number, at = word(random), random.randrange(1, 10**6), moment(random)
    return random.choice(
        [
            f'{a}-host - - [{at:%d/%b/%Y:%H:%M:%S} +0000] "GET /{a}/{number} HTTP/1.1" 200 {number} "-" "curl/8.4.0"',
            f"{at:%Y/%m/%d %H:%M:%S} [error] {number}#0: *{number} upstream timed out (110: Connection timed out) while connecting to upstream",
            f"{at:%Y-%m-%d %H:%M:%S}.{number % 1000:03} UTC [{number}] LOG:  duration: {number / 7:.3f} ms  statement: {sql(random)}",
            f"[{at:%Y-%m-%d %H:%M:%S},{number % 1000:03}] INFO [GroupCoordinator {number % 9}]: Preparing to rebalance group {a} (kafka.coordinator.group.GroupCoordinator)",
            f"{number}:M {at:%d %b %Y %H:%M:%S}.{number % 1000:03} * Background saving terminated with success",
            f'I{at:%m%d %H:%M:%S}.{number:06}    1234 kubelet.go:{number % 3000}] "SyncLoop (PLEG): event for pod" pod="{a}/{kubernetes_name(random)}"',
            f'level=info ts={at.isoformat()} caller={a}.go:{number % 999} msg="{words(random, " ")}" took={number}ms trace_id={hexadecimal(random, 32)}',
            f'{{"level":"info","ts":{at.timestamp()},"msg":"{words(random, " ")}","n":{number},"trace_id":"{hexadecimal(random, 32)}"}}',
            f"{at:%b %d %H:%M:%S} {a}-1 systemd[1]: Started {words(random, ' ')}.",
            f"WARN {words(random, ' ', 5)} after {number} retries, giving up",
            f"authentication of client {a} ok in {number}us",
            f"token bucket of {a} refilled: {number} tokens",
            f"basic authentication is on for {a}",
            f"secret {a} mounted at /var/run/secrets/{a}",
            f"password policy: at least {number % 30} characters",
            "bearer certificate renewed",
            f"invalid token at line {number % 999} column {number % 80}",
            f"access key rotation of {a}: done",
        ]
    )


def digest(random: Random) -> str:
    raw = random.randbytes(random.choice([16, 20, 32]))
    return random.choice(
        [
            hexadecimal(random, random.choice([7, 8, 12, 16, 32, 40, 64])),
            base64.b64encode(raw).decode(),
            f"sha256:{hexadecimal(random, 64)}",
            f'W/"{hexadecimal(random, 10)}-{hexadecimal(random, 12)}"',
            f'"{hexadecimal(random, 32)}"',
            f"sha384-{base64.b64encode(random.randbytes(48)).decode()}",
            f"commit {hexadecimal(random, 40)}",
            f"md5={hexadecimal(random, 32)}",
            f"00-{hexadecimal(random, 32)}-{hexadecimal(random, 16)}-01",
            f"trace_id={hexadecimal(random, 32)} span_id={hexadecimal(random, 16)}",
            hexadecimal(random, 32).upper(),
            f"0x{hexadecimal(random, 16)}",
        ]
    )


def identifier(random: Random) -> str:
    return random.choice(
        [
            uuid(random),
            "01" + chars(random, _BASE32, 24),
            str(random.randrange(10**17, 19 * 10**17)),
            f"order-{random.randrange(10**9)}",
            f"#{random.randrange(10**7):07}",
            f"ORD-{random.randrange(10**3):03}-{random.randrange(10**6):06}",
            f"978-{random.randrange(10)}-{chars(random, DIGITS, 4)}-{chars(random, DIGITS, 4)}-{random.randrange(10)}",
            f"build {random.randrange(10**6)}",
            f"{moment(random):%Y%m%d}.{random.randrange(30)}",
            f"{random.randrange(10**8):08}",
            f"INV{chars(random, DIGITS, 10)}",
            f"arn:aws:sqs:eu-west-1:{chars(random, DIGITS, 12)}:{words(random, '-')}",
            f"partition={random.randrange(99)} offset={random.randrange(10**12)}",
            f"pid={random.randrange(10**5)} tid={random.randrange(10**9)}",
            chars(random, string.ascii_letters, 21),
        ]
    )


def small_thing(random: Random) -> str:
    latitude, longitude = random.uniform(-90, 90), random.uniform(-180, 180)
    return random.choice(
        [
            f"{latitude:.6f}, {longitude:.6f}",
            f"{latitude:.4f},{longitude:.4f}",
            random.choice(["de-DE", "en_US.UTF-8", "fr-CA", "ja"]),
            "EUR",
            "text/html; charset=utf-8",
            f"*/{random.randrange(1, 60)} * * * 1-5",
            f"{random.randrange(60)} {random.randrange(24)} 1,15 * *",
            f"#{hexadecimal(random, 6)}",
            f"#{hexadecimal(random, 3)}",
            f"rgba({random.randrange(256)}, {random.randrange(256)}, {random.randrange(256)}, 0.5)",
            f"{random.randrange(1, 8000)}x{random.randrange(1, 8000)}",
            quote(words(random, " ")),
            f"{random.randrange(100)}/{random.randrange(100, 200)}",
            f"[{random.randrange(99)}:{random.randrange(99)}]",
            words(random, " ", 6),
            "TLS_AES_128_GCM_SHA256",
            "SERVER",
            f"HTTP {random.randrange(200, 600)}",
            f"{random.randrange(24):02}:{random.randrange(60):02}",
            f"{word(random)}={random.random():.3f}",
            "größe übermäßig",
            "注文が完了しました",
            "ok 🙂",
            f"{word(random)}::{word(random)}",
            f"a-{hexadecimal(random, 4)}-{hexadecimal(random, 4)}",
            "us-east-1a",
            f"{word(random)}.{word(random)}.v1.Service/Get",
        ]
    )


KINDS: dict[str, Make] = {
    "digest": digest,
    "date": date,
    "epoch": epoch,
    "release": release,
    "amount": amount,
    "kubernetes": kubernetes_name,
    "image": image,
    "quantity": quantity,
    "metric": metric,
    "url": url,
    "code": code_place,
    "user_agent": user_agent,
    "sql": sql,
    "log": log_line,
    "identifier": identifier,
    "small": small_thing,
}


def clean_strings(seed: int, count: int = 50_000) -> list[str]:
    """As many of each kind."""
    random, kinds = Random(seed), list(KINDS.values())
    return [kinds[index % len(kinds)](random) for index in range(count)]
