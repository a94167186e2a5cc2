"""The oracle's detectors of credentials: plain, slow and independent of the engine's."""

import base64
import binascii
import math
import re
import unicodedata
from collections import Counter

from tests.support.spans import FREE_BEFORE, Find, Span, any_of, found, free, matches, united, without_overlap

# --- Tokens by their structure --------------------------------------------------------------------------------------

_URL64 = "[A-Za-z0-9_-]"
# What decodes is proof enough: a word may stand before it.
_JWT = re.compile(
    rf"(?P<header>eyJ{_URL64}{{13,}})"
    rf"(?P<rest>(?:\.{_URL64}*){{2}}(?P<encrypted>(?:\.{_URL64}*){{2}})?)"
)


def jwt(text: str) -> list[Span]:
    spans = []
    for match in matches(_JWT, text):
        # A header that was damaged is one still.
        digits = match["header"]
        if len(digits) % 4 == 1:  # no base64
            continue
        header = base64.urlsafe_b64decode(digits + "=" * (-len(digits) % 4))
        if header.endswith(b"}") and b'"alg"' in header:
            five = b'"enc"' in header or match["encrypted"] is None
            spans.append((match.start(), match.end() if five else match.start("encrypted")))
    return without_overlap(iter(spans))


_BLANK = r"(?: |%20|\+)+"
_SCHEME = re.compile(
    rf"{FREE_BEFORE}(?:(?:bearer|token|apikey|negotiate){_BLANK}(?P<token>[A-Za-z0-9._~+/=-]+)"
    rf"|basic{_BLANK}(?P<basic>[A-Za-z0-9+/]+={{0,2}})"
    rf"|digest{_BLANK}(?P<digest>[a-z]+=[^\r\n]*))",
    re.IGNORECASE,
)


def authorization(text: str) -> list[Span]:
    spans: list[Span] = []
    for match in _SCHEME.finditer(text):
        kind = match.lastgroup
        assert kind is not None
        if kind == "token":
            credible = _is_token(match[0], match[kind].rstrip("."))
        else:
            credible = kind == "digest" or _is_user_and_password(match[kind])
        if credible:
            start, end = match.span(kind)
            spans.append((start, start + len(text[start:end].rstrip(".")) if kind == "token" else end))
    return spans


def _is_token(credentials: str, token: str) -> bool:
    # Behind “token” stands prose as often, and behind the others prose with signs in it.
    prose = made_of_words(token) and (credentials.lower().startswith("token") or not token.isalnum())
    return not prose and (len(token) >= 16 or (len(token) >= 8 and re.search("[0-9]", token) is not None))


def made_of_words(token: str) -> bool:
    """`kebab-case-words`, `com.acme.ClassName`, `us-east-1`, `sha256`: words, and numbers no longer than a year."""

    def is_word(piece: str) -> bool:
        if re.fullmatch("[A-Z]*[a-z]*|[0-9]{1,4}|[a-z]+[0-9]{1,3}", piece):
            return True
        humps = len(re.findall("[a-z](?=[A-Z])", piece)) + 1
        return piece.isalpha() and humps > 1 and len(piece) >= 4 * humps

    return all(is_word(piece) for piece in re.split("[^A-Za-z0-9]", token))


def _is_user_and_password(encoded: str) -> bool:
    try:
        digits = encoded.rstrip("=")
        decoded = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    return ":" in decoded and not any(unicodedata.category(char) == "Cc" for char in decoded)


private_key = found(
    re.compile(
        # Of SSH.com with four dashes and a blank.
        r"-{4,} ?BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-{4,}(?:.*?-{4,} ?END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-{4,}|.*)",
        re.DOTALL,
    )
)

# --- Keys of providers ----------------------------------------------------------------------------------------------

_AWS_IDS = ("AKIA", "ASIA", "ABIA", "ACCA", "AGPA", "AIDA", "AIPA", "ANPA", "ANVA", "AROA")
_AWS_WORD = re.compile("aws.{0,40}?secret|secret_access_key|secretaccesskey", re.IGNORECASE | re.DOTALL)
_AWS_SECRET = re.compile("[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")


def _aws_secret(text: str) -> list[Span]:
    # Overlapping words: the last one that ends before the key counts.
    word_ends = [
        match.end() for start in range(len(text)) if text[start] in "aAsS" and (match := _AWS_WORD.match(text, start))
    ]
    extended = [end + len(rest[0]) for end in word_ends if (rest := re.match("(?:_?access_?key)?", text[end:], re.I))]
    return [
        match.span()
        for match in matches(_AWS_SECRET, text)
        # Free of base64, but for the word that names it.
        if (match.start() in extended or not re.search(r"[A-Za-z0-9/+]\Z", text[: match.start()]))
        and all(re.search(kind, match[0]) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
        and not re.fullmatch("[0-9A-Fa-f]+", match[0])
        and any(0 <= len(text[end : match.start()].encode()) <= 40 for end in extended if end <= match.start())
    ]


aws_key = any_of(found(free("(?:" + "|".join(_AWS_IDS) + ")[A-Z2-7]{16}")), _aws_secret)

gcp_key = found(free(r"AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_.-]{20,}(?![A-Za-z0-9_.-])|GOCSPX-[A-Za-z0-9_-]{28}"))

_ESCAPED = "%2[BbFf]|%3[Dd]"
_SAS = re.compile(rf"(?<![A-Za-z0-9_])sig=(?P<value>(?:[A-Za-z0-9+/_-]|{_ESCAPED})+=*)")


def _sas_signature(text: str) -> list[Span]:
    spans: list[Span] = []
    for url in re.finditer(r"[^\s\"'<>]+", text):
        if re.search(r"(?:\A|[?&;])s[ev]=", url[0]):
            signatures = (match.span("value") for match in _SAS.finditer(url[0]))
            spans += [(url.start() + start, url.start() + end) for start, end in signatures if 43 <= end - start <= 60]
    return spans


azure_key = any_of(
    found(
        re.compile(
            rf"(?:AccountKey|SharedAccessKey|SharedSecretKey)=(?P<value>(?:[A-Za-z0-9+/=]|{_ESCAPED})+)", re.IGNORECASE
        ),
        "value",
        lambda match: len(match["value"]) >= 40,
    ),
    _sas_signature,
    found(free(r"[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}")),
)

# These prefixes are proof enough: a word may go on behind a key, which is masked as far as it goes.
github_token = found(re.compile(FREE_BEFORE + "(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})"))

slack_token = any_of(
    found(re.compile(FREE_BEFORE + r"(?:xoxe\.xox[a-z]-|xox[bparsoe]-|xapp-)[A-Za-z0-9-]{20,}")),
    found(re.compile(r"hooks\.slack\.com/services/(?P<path>T[A-Za-z0-9]+/B[A-Za-z0-9]+/[A-Za-z0-9]+)"), "path"),
)

stripe_key = found(re.compile(FREE_BEFORE + "(?:[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{24,})"))

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
