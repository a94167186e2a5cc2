"""Seeded instances of what each detector finds, near misses, and places where they stand in telemetry.

Everything is made up at run time from parts, so that no file holds what looks like a key of somebody.
"""

import base64
import json
import string
from collections.abc import Callable
from random import Random
from urllib.parse import quote

from tests.support.detectors import DETECTORS
from tests.support.personal_data import IBAN_LENGTHS, luhn, mod_97

DIGITS, HEX, UPPER = string.digits, "0123456789abcdef", string.ascii_uppercase
ALNUM = string.ascii_letters + string.digits
BASE64, URL64 = ALNUM + "+/", ALNUM + "-_"
BASE32 = UPPER + "234567"

Make = Callable[[Random], str]


def chars(random: Random, alphabet: str, count: int) -> str:
    return "".join(random.choices(alphabet, k=count))


def mixed(random: Random, alphabet: str, count: int) -> str:
    """With a letter of either case and a digit, none at the ends being a sign."""
    inner = [*random.choices(alphabet, k=count - 3), random.choice(string.ascii_lowercase), random.choice(UPPER)]
    random.shuffle(inner)
    text = random.choice(ALNUM) + "".join(inner[1:]) + inner[0] if inner[0].isalnum() else "x" + "".join(inner)
    return (text[:-1] + random.choice(DIGITS)).ljust(count, "7")[:count]


# --- Instances ------------------------------------------------------------------------------------------------------


def an_email(random: Random) -> str:
    local = random.choice(["jane.doe", "o'brien", "bob+tag", "j_smith-x", "x", "jürgen", "taro%20y", "a.b.c"])
    domain = random.choice(
        ["example.com", "mail.example.co.uk", "xn--bcher-kva.example", "exämple.de", "sub_d.example.org"]
    )
    return f"{local}{random.randrange(100)}{random.choice(['@', '@', '%40', '%2540'])}{domain}"


def a_card(random: Random) -> str:
    prefix, length = random.choice([("4", 16), ("4", 13), ("51", 16), ("34", 15), ("37", 15), ("6011", 16), ("62", 19),
                                    ("30", 14), ("35", 16), ("2223", 16)])  # fmt: skip
    body = prefix + chars(random, DIGITS, length - len(prefix) - 1)
    digits = next(body + check for check in DIGITS if luhn(body + check))
    if length != 16 or random.random() < 0.4:
        return digits
    return random.choice(" -").join(digits[start : start + 4] for start in range(0, 16, 4))


def an_iban(random: Random) -> str:
    country = random.choice(list(IBAN_LENGTHS))
    bban = chars(random, DIGITS + UPPER if random.random() < 0.3 else DIGITS, IBAN_LENGTHS[country] - 4)
    run = f"{country}{98 - mod_97(f'{country}00{bban}'):02}{bban}"
    form = random.randrange(4)
    if form == 0:
        return run.lower()
    return " ".join(run[start : start + 4] for start in range(0, len(run), 4)) if form == 1 else run


def a_us_ssn(random: Random) -> str:
    area = random.choice([1, 78, 123, 219, 665, 667, 899])
    separator = random.choice("--- ")
    known = ["078-05-1120", "219-09-9999"]
    made = f"{area:03}{separator}{random.randrange(1, 100):02}{separator}{random.randrange(1, 10_000):04}"
    return random.choice(known) if random.random() < 0.05 else made


def a_phone(random: Random) -> str:
    def some(count: int) -> str:
        return chars(random, DIGITS, count)

    nanp = f"{random.randrange(2, 10)}{some(2)}", f"{random.randrange(2, 10)}{some(2)}", some(4)
    return random.choice([
        f"+49 30 {some(7)}", f"+4915{some(9)}", f"+44 20 {some(4)} {some(4)}", f"+1-{'-'.join(nanp)}",
        f"+1 ({nanp[0]}) {nanp[1]}-{nanp[2]}", f"+33 6 {some(2)} {some(2)} {some(2)} {some(2)}", f"+1{''.join(nanp)}",
        f"+353.1.{some(7)}", f"0049 30 {some(7)}", f"00 44 20 {some(4)} {some(4)}", f"({nanp[0]}) {nanp[1]}-{nanp[2]}",
        "-".join(nanp), ".".join(nanp), f"1-{'-'.join(nanp)}", f"1 {'-'.join(nanp)}", f"020 {some(4)} {some(4)}",
        f"06 {some(2)} {some(2)} {some(2)} {some(2)}", f"01-{some(2)}-{some(2)}-{some(2)}-{some(2)}", f"030 {some(7)}",
        f"0211 {some(6)}",
    ])  # fmt: skip


def an_ipv4(random: Random) -> str:
    first = random.choice([1, 8, 10, 52, 100, 126, 128, 172, 192, 203, 224, 255])
    quad = f"{first}.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(255)}"
    return quad + random.choice(["", "", "", f":{random.randrange(1, 65536)}", f"/{random.randrange(8, 33)}"])


def an_ipv6(random: Random) -> str:
    groups = [f"{random.randrange(16, 65536):x}" for _ in range(8)]
    kept = random.randrange(2, 7)
    shortened = ":".join(groups[: kept // 2]) + "::" + ":".join(groups[: kept - kept // 2])
    quad = f"{random.randrange(1, 256)}.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(256)}"
    return random.choice([
        ":".join(groups), ":".join(groups).upper(), shortened, f"[{shortened}]:443", f"2001:db8::{groups[0]}",
        f"::ffff:{quad}", f"fe80::{groups[0]}%eth0", f"64:ff9b::{quad}", f"{groups[0]}::", f"::{groups[0]}:{groups[1]}",
    ])  # fmt: skip


def a_mac(random: Random) -> str:
    pairs = ["02", "a" + random.choice(HEX), *(chars(random, HEX, 2) for _ in range(4))]
    run = "".join(pairs)
    made = random.choice([":".join(pairs), "-".join(pairs), ".".join([run[:4], run[4:8], run[8:]])])
    return made.upper() if random.random() < 0.4 else made


def a_uuid(random: Random) -> str:
    run = chars(random, HEX, 32)
    made = "-".join([run[:8], run[8:12], run[12:16], run[16:20], run[20:]])
    return random.choice([made, made.upper(), "{" + made + "}"])


def url64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def a_jwt(random: Random) -> str:
    header = url64({"alg": random.choice(["HS256", "RS256", "none"]), "typ": "JWT"})
    payload = url64({"sub": chars(random, DIGITS, 10), "n": random.randrange(10**6)})
    if random.random() < 0.2:
        parts = [url64({"alg": "dir", "enc": "A256GCM"}), *(chars(random, ALNUM, n) for n in (40, 16, 60, 22))]
        return ".".join(parts)
    return f"{header}.{payload}.{random.choice(['', chars(random, URL64, 42) + 'x'])}"


def an_authorization(random: Random) -> str:
    gap = random.choice([" ", " ", "  ", "%20", "+"])
    basic = base64.b64encode(f"user{random.randrange(1000)}:{chars(random, ALNUM, 12)}".encode()).decode()
    scheme = random.choice(["Bearer", "bearer", "BEARER", "Token", "ApiKey", "Negotiate"])
    token = random.choice(
        [chars(random, string.ascii_letters, 20), mixed(random, ALNUM, 9), mixed(random, ALNUM + "._~-", 40)]
    )
    return random.choice([f"{scheme}{gap}{token}", f"{scheme}{gap}{token}", f"Basic {basic}", f"basic{gap}{basic}"])


def a_private_key(random: Random) -> str:
    label = random.choice(["RSA ", "", "EC ", "ENCRYPTED ", "OPENSSH ", "DSA "]) + "PRIVATE KEY"
    if random.random() < 0.2:
        label = "PGP PRIVATE KEY BLOCK"
    end = random.choice(["\n", "\\n", " ", "\r\n", "\\\\n"])
    lines = [chars(random, BASE64, 64) for _ in range(random.randrange(1, 5))]
    return end.join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"])


def an_aws_key(random: Random) -> str:
    if random.random() < 0.5:
        # In two halves: together they are what scanners look for.
        kind = random.choice(["IA", "PA", "VA", "DA"])
        return ("A" + {"IA": random.choice("KS"), "PA": "G", "VA": "N", "DA": "I"}[kind] + kind) + chars(
            random, BASE32, 16
        )
    secret = mixed(random, BASE64, 40)
    return random.choice(["aws_secret_access_key=", "aws_secret_access_key = ", "SecretAccessKey: ",
                          "AWS_SECRET_ACCESS_KEY=", "aws secret is "]) + secret  # fmt: skip


def a_gcp_key(random: Random) -> str:
    return random.choice([
        "AI" + "za" + mixed(random, URL64, 35), "ya" + "29." + mixed(random, URL64, 40),
        "GOC" + "SPX-" + mixed(random, URL64, 28),
    ])  # fmt: skip


def an_azure_key(random: Random) -> str:
    key = base64.b64encode(random.randbytes(64)).decode()
    signature = quote(base64.b64encode(random.randbytes(32)).decode(), safe="")
    return random.choice([
        f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={key}",
        f"Endpoint=sb://x.example/;SharedAccessKeyName=k;SharedAccessKey={key[:43]}=",
        f"https://x.blob.example/c?sv=2022-11-02&se=2024-01-01&sig={signature}",
        f"https://x.blob.example/c?sig={signature}&se=2024-01-01",
        f"{mixed(random, ALNUM, 3)}{random.choice('78')}Q~{mixed(random, ALNUM, 32)}",
    ])  # fmt: skip


def a_github_token(random: Random) -> str:
    kind = random.choice("pousr")
    return random.choice(
        ["gh" + kind + "_" + mixed(random, ALNUM, 36), "github" + "_pat_" + mixed(random, ALNUM + "_", 82)]
    )


def a_slack_token(random: Random) -> str:
    tail = f"{chars(random, DIGITS, 11)}-{chars(random, DIGITS, 12)}-{mixed(random, ALNUM, 24)}"
    path = f"T{chars(random, UPPER, 8)}/B{chars(random, UPPER, 8)}/{mixed(random, ALNUM, 24)}"
    return random.choice([
        "xo" + f"x{random.choice('bparsoe')}-{tail}", "xa" + f"pp-1-A{tail}", "xo" + "xe.xo" + f"xp-1-{tail}",
        "https://hooks.slack" + f".com/services/{path}",
    ])  # fmt: skip


def a_stripe_key(random: Random) -> str:
    kind = random.choice("sr") + "k_" + random.choice(["live", "test"]) + "_"
    return random.choice(
        [kind + mixed(random, ALNUM, 24), kind + mixed(random, ALNUM, 99), "wh" + "sec_" + mixed(random, ALNUM, 32)]
    )


def a_url_password(random: Random) -> str:
    password = random.choice(
        [chars(random, ALNUM, 10), "p@ss" + chars(random, ALNUM, 4), "p%40s%3A" + chars(random, ALNUM, 4)]
    )
    scheme = random.choice(["https", "postgres", "redis", "amqp", "mongodb+srv"])
    url = f"{scheme}://{random.choice(['user', '', 'svc.app'])}:{password}@host.internal:5432/db"
    return quote(url, safe="") if random.random() < 0.2 and "%" not in url and "@" not in password else url


def a_passport(random: Random) -> str:
    def number(digits: int) -> str:
        return chars(random, DIGITS, digits)

    def letters(count: int) -> str:
        return chars(random, UPPER, count)

    forms = [
        number(9),
        "C" + number(8),
        number(2) + letters(2) + number(5),
        letters(3) + number(6),
        letters(2) + number(7),
    ]
    word = random.choice(
        ["passport ", "Passport No. ", "passport_number=", "Reisepass: ", "pasaporte ", "passaporto n. "]
    )
    return word + random.choice(forms)


def a_secret_token(random: Random) -> str:
    word = random.choice(["password", "client_secret", "api_key", "apikey", "access_key", "pwd", "auth_token",
                          "DB_PASSWORD", "api-key", "passphrase", "secretKey", "credential"])  # fmt: skip
    return word + random.choice(["=", ": ", " = ", " is "]) + mixed(random, ALNUM, random.choice([16, 24, 32, 48]))


INSTANCES: dict[str, Make] = {
    "email": an_email, "credit_card": a_card, "iban": an_iban, "us_ssn": a_us_ssn, "phone": a_phone, "ipv4": an_ipv4,
    "ipv6": an_ipv6, "mac": a_mac, "uuid": a_uuid, "jwt": a_jwt, "authorization": an_authorization,
    "private_key": a_private_key, "aws_key": an_aws_key, "gcp_key": a_gcp_key, "azure_key": an_azure_key,
    "github_token": a_github_token, "slack_token": a_slack_token, "stripe_key": a_stripe_key,
    "url_password": a_url_password, "passport": a_passport, "secret_token": a_secret_token,
}  # fmt: skip
assert set(INSTANCES) == set(DETECTORS)

# --- Near misses ----------------------------------------------------------------------------------------------------


def near_miss(random: Random, detector: str) -> str:
    """An instance with something wrong with it; by chance it may still be one, which the oracle knows."""
    text = INSTANCES[detector](random)
    position = random.randrange(len(text))
    kind = random.randrange(6)
    if kind == 0 and text[position].isascii() and text[position].isdigit():
        return text[:position] + str((int(text[position]) + 1) % 10) + text[position + 1 :]
    if kind == 1:
        return text[:position] + text[position + 1 :]
    if kind == 2:
        return text[:position] + text[position] + text[position:]
    if kind == 3:
        return random.choice(["x", "Z", "7", "_"]) + text
    if kind == 4:
        return text + random.choice(["x", "Z", "7", "_"])
    # A separator becomes another one, if there is one.
    return text.replace(random.choice("-:. @/_="), random.choice([" ", "", "~"]), 1)


# --- Contexts -------------------------------------------------------------------------------------------------------

_FRAMES = (
    "{}", "{}", "user said {} today", "see ({})", "[{}]", "<{}>", "'{}'", '"{}"', '{"a":"{}","n":1}', '{"a": "{}"}',
    '{"m":"{\\"k\\":\\"{}\\"}"}', "level=info msg=done value={} took=3ms", 'k="{}" n=1', "GET /p?x={}&y=1 HTTP",
    "/p?x=%20{}", "X-Header: {}", "SELECT * FROM t WHERE a = '{}' AND b = 1",
    "java.lang.IllegalStateException: {}\n\tat com.acme.A.b(A.java:12)", "line\n{}\nnext", "line\\n{}\\nnext", "a\\t{}",
    "größe {} straße", "卡 {} 号", "卡{}号", "🙂{}🙂", "é{}é", "{} at the start", "at the end {}",
    "{}, {}", "\t{}\t", "«{}»",
    "x={};y=2", "`{}`", "a|{}|b", "x%3D{}%26y",
)  # fmt: skip


def in_context(random: Random, text: str) -> str:
    return random.choice(_FRAMES).replace("{}", text)


def secret_strings(random: Random, detector: str, count: int) -> list[str]:
    """Instances and near misses in contexts, two to one."""
    return [
        in_context(random, INSTANCES[detector](random) if index % 3 else near_miss(random, detector))
        for index in range(count)
    ]
