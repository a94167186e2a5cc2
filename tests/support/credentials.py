"""The oracle's detectors of credentials: plain, slow and independent of the engine's."""

import base64
import binascii
import json
import math
import re
from collections import Counter

from tests.support.spans import FREE_BEFORE, Find, Span, any_of, found, free, united

# --- Tokens by their structure --------------------------------------------------------------------------------------

_URL64 = "[A-Za-z0-9_-]"
_JWT = re.compile(
    rf"{FREE_BEFORE}(?P<header>eyJ{_URL64}{{13,}})"
    rf"(?:\.{_URL64}*\.{_URL64}+\.{_URL64}+\.{_URL64}+|\.{_URL64}+\.{_URL64}*)(?!{_URL64})"
)


def _has_algorithm(match: re.Match[str]) -> bool:
    try:
        header = json.loads(base64.urlsafe_b64decode(match["header"] + "=" * (-len(match["header"]) % 4)))
    except (binascii.Error, ValueError):
        return False
    return isinstance(header, dict) and "alg" in header


jwt = found(_JWT, 0, _has_algorithm)

_BLANK = r"(?: |%20|\+)+"
_SCHEME = re.compile(
    rf"{FREE_BEFORE}(?:(?:bearer|token|apikey|negotiate){_BLANK}(?P<token>[A-Za-z0-9._~+/=-]+)"
    rf"|basic{_BLANK}(?P<basic>[A-Za-z0-9+/]+={{0,2}})(?![A-Za-z0-9+/=])"
    rf"|digest{_BLANK}(?P<digest>[a-z]+=[^\r\n]*))",
    re.IGNORECASE,
)


def authorization(text: str) -> list[Span]:
    spans: list[Span] = []
    for match in _SCHEME.finditer(text):
        kind = match.lastgroup
        assert kind is not None
        if kind == "token":
            credible = len(match[kind]) >= 16 or (len(match[kind]) >= 8 and re.search("[0-9]", match[kind]))
        else:
            credible = kind == "digest" or _is_user_and_password(match[kind])
        if credible:
            spans.append(match.span(kind))
    return spans


def _is_user_and_password(encoded: str) -> bool:
    try:
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    return ":" in decoded and decoded.isprintable()


private_key = found(
    re.compile(
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z0-9 ]*-----"
        r"(?:.*?-----END [A-Z0-9 ]*PRIVATE KEY[A-Z0-9 ]*-----|.*)",
        re.DOTALL,
    )
)

# --- Keys of providers ----------------------------------------------------------------------------------------------

_AWS_IDS = ("AKIA", "ASIA", "ABIA", "ACCA", "AGPA", "AIDA", "AIPA", "ANPA", "ANVA", "AROA")
_AWS_WORD = re.compile("aws.{0,40}?secret|secret_access_key|secretaccesskey", re.IGNORECASE | re.DOTALL)
_AWS_SECRET = re.compile("(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")


def _aws_secret(text: str) -> list[Span]:
    # Overlapping words: the last one that ends before the key counts.
    word_ends = [
        match.end() for start in range(len(text)) if text[start] in "aAsS" and (match := _AWS_WORD.match(text, start))
    ]
    extended = [end + len(rest[0]) for end in word_ends if (rest := re.match("(?:_?access_?key)?", text[end:], re.I))]
    return [
        match.span()
        for match in _AWS_SECRET.finditer(text)
        if all(re.search(kind, match[0]) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
        and not re.fullmatch("[0-9A-Fa-f]+", match[0])
        and any(0 <= len(text[end : match.start()].encode()) <= 40 for end in extended if end <= match.start())
    ]


aws_key = any_of(found(free("(?:" + "|".join(_AWS_IDS) + ")[A-Z2-7]{16}")), _aws_secret)

gcp_key = found(free(r"AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_.-]{20,}(?![A-Za-z0-9_.-])|GOCSPX-[A-Za-z0-9_-]{28}"))

_SAS = re.compile(r"(?<=[?&;])sig=(?P<value>(?:[A-Za-z0-9+/=]|%2[BbFf]|%3[Dd]){43,60})(?![A-Za-z0-9+/=%])")


def _sas_signature(text: str) -> list[Span]:
    spans: list[Span] = []
    for url in re.finditer(r"[^\s\"'<>]+", text):
        if re.search("[?&;]s[ev]=", url[0]):
            offset = url.start()
            spans += [(offset + match.start("value"), offset + match.end("value")) for match in _SAS.finditer(url[0])]
    return spans


azure_key = any_of(
    found(
        re.compile(r"(?:AccountKey|SharedAccessKey|SharedSecretKey)=(?P<value>[A-Za-z0-9+/]{38,}={0,2})"),
        "value",
        lambda match: len(match["value"]) >= 40,
    ),
    _sas_signature,
    found(free(r"[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}")),
)

github_token = found(free("gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,}"))

slack_token = any_of(
    found(free(r"(?:xoxe\.xox[a-z]-|xox[bparsoe]-|xapp-)[A-Za-z0-9-]{20,}")),
    found(re.compile(r"hooks\.slack\.com/services/(?P<path>T[A-Za-z0-9]+/B[A-Za-z0-9]+/[A-Za-z0-9]+)"), "path"),
)

stripe_key = found(free("[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{24,}"))

# --- Passwords and what stands beside a sensitive word --------------------------------------------------------------

_IN_USERINFO = r"[^/?#\s\"'`<>\\]"
_URL = re.compile(
    rf"[A-Za-z][A-Za-z0-9+.-]*://(?P<user>(?:(?!:){_IN_USERINFO})*):(?P<password>{_IN_USERINFO}+)@(?={_IN_USERINFO})"
)
_ENCODED = r"(?:(?!%2[0F3]|%3F|%22|%27)[^/?#&\s\"'`<>\\])"
_ENCODED_URL = re.compile(
    rf"[A-Za-z][A-Za-z0-9+.-]*%3A%2F%2F(?:(?!%3A){_ENCODED})*%3A(?P<password>{_ENCODED}+)%40(?={_ENCODED})",
    re.IGNORECASE,
)
url_password = any_of(found(_URL, "password"), found(_ENCODED_URL, "password"))

_WORDS = (
    "secret|token|passwd|password|pwd|passphrase|api_key|apikey|api-key|access_key|private_key|client_secret"
    "|credential|auth"
)
_BESIDE_WORD = re.compile(
    rf"(?:{_WORDS})[A-Za-z0-9_.-]*?(?P<between>(?:[=:>\"'(\[\s\\]|is(?=[\s:])){{1,16}})"
    r"(?P<token>[A-Za-z0-9_+/=.~-]{12,})",
    re.IGNORECASE,
)


def entropy_bits(token: str) -> float:
    """Shannon's, a character."""
    counts = Counter(token)
    return -sum(count / len(token) * math.log2(count / len(token)) for count in counts.values())


def is_random(token: str) -> bool:
    kinds = sum(re.search(kind, token) is not None for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    path = re.fullmatch(r"[/.~]?[A-Za-z0-9_.-]*(?:/[A-Za-z0-9_.-]+)+/?", token) is not None and (
        token.startswith(("/", "./", "~/", "../")) or not re.search("[0-9]", token)
    )
    words = re.fullmatch("[A-Za-z]+(?:[-_][A-Za-z]+)+", token) is not None
    dotted = re.fullmatch(r"[A-Za-z_$]+(?:\.[A-Za-z_$]+)+", token) is not None
    least = 3.0 if len(token) <= 20 else 3.3
    return kinds >= 2 and not path and not words and not dotted and entropy_bits(token) >= least


def secret_token(text: str) -> list[Span]:
    spans = (
        match.span("token")
        for start in range(len(text))
        if (match := _BESIDE_WORD.match(text, start)) and is_random(match["token"])
    )
    return united(spans)


FINDS: dict[str, Find] = {
    "jwt": jwt,
    "authorization": authorization,
    "private_key": private_key,
    "aws_key": aws_key,
    "gcp_key": gcp_key,
    "azure_key": azure_key,
    "github_token": github_token,
    "slack_token": slack_token,
    "stripe_key": stripe_key,
    "url_password": url_password,
    "secret_token": secret_token,
}
