"""The oracle's detectors of what identifies a person or a machine: plain, slow and independent of the engine's."""

import ipaddress
import re

from tests.support.spans import (
    ALONE_AFTER,
    ALONE_BEFORE,
    FREE_AFTER,
    FREE_BEFORE,
    Find,
    Span,
    any_of,
    found,
    free,
    matches,
    united,
    without_overlap,
)

# --- E-mail addresses ---------------------------------------------------------------------------------------------

_AT = re.compile(r"@|%40|%2540")
_LABEL = r"[^\W-][\w-]*"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LOCAL = re.compile(r"[\w.%+\-'!#$*~^]*\Z")
_QUOTED_LOCAL = re.compile(r'"[A-Za-z0-9](?:[A-Za-z0-9 ._+-]{0,62}[A-Za-z0-9])?"\Z')


def email(text: str) -> list[Span]:
    spans: list[Span] = []
    for sign in _AT.finditer(text):
        domain = _DOMAIN.match(text, sign.end())
        if domain is None or not any(label[:2].isalnum() and _two_letters(label) for label in domain[0].split(".")[1:]):
            continue
        end = domain.start() + len(domain[0].rstrip("-."))
        floor = spans[-1][1] if spans else 0
        start = _local_part(text, floor, sign.start())
        if start < sign.start():
            spans.append((start, end))
        elif spans and sign.start() == floor:
            spans[-1] = (spans[-1][0], end)  # `a@b.org@c.org`
    return spans


def _two_letters(label: str) -> bool:
    # One character of another script may be a word.
    return len(label) >= 2 and all(char.isalpha() or not char.isascii() for char in label[:2])


def _local_part(text: str, floor: int, at: int) -> int:
    before = text[floor:at]
    if before.endswith('"'):
        quoted = _QUOTED_LOCAL.search(before)
        return floor + quoted.start() if quoted else at
    allowed = _LOCAL.search(before)
    assert allowed is not None
    local = allowed[0].lstrip(".+-'!#$*~^")
    if not local:
        return at
    begin = at - len(local)
    while begin > floor and text[begin - 1] == "\\":
        begin -= 1
    return begin


# --- Credit cards ---------------------------------------------------------------------------------------------------

_ROW = re.compile(r"[0-9]+(?:[ -][0-9]+)*")


def luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + index % 2) for index, digit in enumerate(reversed(digits))]
    return sum(value // 10 + value % 10 for value in doubled) % 10 == 0


def _is_card(digits: str) -> bool:
    issuer = re.match(r"2[2-7]|3[04-9]|[456]", digits)
    return 13 <= len(digits) <= 19 and issuer is not None and luhn(digits)


def credit_card(text: str) -> list[Span]:
    """Each reading of each row of groups of digits is tried."""
    cards: list[Span] = []
    for row in _ROW.finditer(text):
        starts = [group.start() for group in re.finditer("[0-9]+", row[0])]
        for offset in starts:
            run = re.match("[0-9]+", row[0][offset:])
            assert run is not None
            start = _card_start(text, row.start() + offset, len(run[0]))
            if start is not None:
                first = offset == 0
                ends = [
                    end for end in _group_ends(text, start, row.end())
                    if _reads_as_card(text[start:end], alone=first and end == row.end())
                    and not re.match("[A-Za-z0-9]", text[end:])
                ]  # fmt: skip
                cards += [(start, ends[-1])] if ends else []
    return united(iter(cards))


def _group_ends(text: str, start: int, row_end: int) -> list[int]:
    return [start + group.end() for group in re.finditer("[0-9]+", text[start:row_end])]


def _reads_as_card(reading: str, *, alone: bool) -> bool:
    groups = [len(group) for group in re.split("[ -]", reading)]
    usual = groups[0] >= 4 and all(length >= 3 for length in groups[1:])
    equal = all(length == groups[0] for length in groups[:-1]) and groups[-1] <= groups[0]
    return (usual or (alone and equal)) and _is_card(re.sub("[ -]", "", reading))


def _card_start(text: str, group: int, run: int) -> int | None:
    before = text[:group]
    if before.endswith("%"):
        return group + 2 if run > 2 else None
    if run >= 13 and re.search(r"[0-9]\.\Z", before):
        return None  # a fraction
    if re.search(r"[A-Za-z]\Z", before) and not re.search(r"(?:\\[nrtbf]|%[0-9A-Fa-f]{2})\Z", before):
        return None
    return group


# --- IBANs ----------------------------------------------------------------------------------------------------------

_REGISTRY = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 "
    "EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 "
    "KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 "
    "PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 "
    "UA29 VA22 VG24 XK20 YE30"
)
# By country: how long its IBANs are.
IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _REGISTRY.split()}


def mod_97(iban: str) -> int:
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97


def iban(text: str) -> list[Span]:
    spans: list[Span] = []
    for country, length in IBAN_LENGTHS.items():
        if country not in text and country.lower() not in text:
            continue
        rest = length - 4
        whole, last = divmod(rest, 4)
        groups = rf"(?: [A-Z0-9]{{4}}){{{whole}}}" + (rf" [A-Z0-9]{{{last}}}" if last else "")
        upper = rf"{country}[0-9]{{2}}(?:[A-Z0-9]{{{rest}}}|{groups})"
        lower = rf"{country.lower()}[0-9]{{2}}[a-z0-9]{{{rest}}}"
        pattern = free(f"{upper}|{lower}")
        spans += found(pattern, 0, _is_iban)(text)
    return without_overlap(iter(spans))


def _is_iban(match: re.Match[str]) -> bool:
    # What banks issue has at least two check digits and a branch of five; fewer are an identifier that happens to fit.
    return mod_97(match[0].replace(" ", "")) == 1 and len(re.findall("[0-9]", match[0])) >= 7


# --- Numbers of people ----------------------------------------------------------------------------------------------

us_ssn = found(
    re.compile(
        ALONE_BEFORE
        + r"(?!000|666|9)[0-9]{3}(?P<separator>[- ])(?!00)[0-9]{2}(?P=separator)(?!0000)[0-9]{4}"
        + ALONE_AFTER
    )
)

# ITU-T E.164 country codes.
_ASSIGNED = (
    "1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 "
    "86 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 232 233 234 235 236 "
    "237 238 239 240 241 242 243 244 245 246 247 248 249 250 251 252 253 254 255 256 257 258 260 261 262 263 264 265 "
    "266 267 268 269 290 291 297 298 299 350 351 352 353 354 355 356 357 358 359 370 371 372 373 374 375 376 377 378 "
    "379 380 381 382 383 385 386 387 389 420 421 423 500 501 502 503 504 505 506 507 508 509 590 591 592 593 594 595 "
    "596 597 598 599 670 672 673 674 675 676 677 678 679 680 681 682 683 685 686 687 688 689 690 691 692 800 808 850 "
    "852 853 855 856 870 878 880 881 882 883 886 888 960 961 962 963 964 965 966 967 968 970 971 972 973 974 975 976 "
    "977 979 992 993 994 995 996 998"
)
COUNTRY_CODES = frozenset(_ASSIGNED.split())
_GAP = r"(?:[ .-]|[ -]?\(|\)[ -]?)"
_SIGN = re.compile(r"(?<!\))" + FREE_BEFORE + r"\+(?=[1-9])")
_GROUPS = re.compile(rf"[0-9]+(?:{_GAP}[0-9]+)*")
_NANP = r"[2-9][0-9]{2}"


def _international(text: str) -> list[Span]:
    """Behind each `+`, the longest row of groups that is a number, if that ends free."""
    spans = []
    for sign in _SIGN.finditer(text):
        row = _GROUPS.match(text, sign.end())
        assert row is not None
        ends = [group.end() for group in re.finditer("[0-9]+", row[0])]
        first = row[0][: ends[0]]
        # In one run it is complete; what follows that is another thing.
        candidates = ends[:1] if len(first) > 8 and _is_e164(first) else ends
        complete = [end for end in candidates if _is_e164(row[0][:end])]
        if complete and re.match(FREE_AFTER, text[row.start() + complete[-1] :]):
            spans.append((sign.start(), row.start() + complete[-1]))
    return spans


def _is_e164(number: str) -> bool:
    digits = re.sub("[^0-9]", "", number)
    groups = re.split("[^0-9]+", number)
    if digits[0] in "17":
        # Plans of numbers of one length, North America's and Russia's.
        fits = re.fullmatch(f"7[0-9]{{10}}|1{_NANP}{_NANP}[0-9]{{4}}", digits) is not None
    else:
        fits = 8 <= len(digits) <= 15 and any(groups[0].startswith(code) for code in COUNTRY_CODES)
    # `+1234567.8901`, but `+1.4155552671` is the form of domain registries (RFC 5733).
    decimal = re.fullmatch(r"[0-9]+\.[0-9]+", number) is not None
    of_registry = decimal and groups[0] in COUNTRY_CODES and 9 <= len(groups[1]) <= 11
    coordinates = "." in number and re.search("[ -]", re.sub(r"[ -]?\(|\)[ -]?", "", number)) is not None
    return fits and not coordinates and (not decimal or of_registry)


# Not behind a sign that makes it a part of something longer: an identifier, a decimal, a time, an expression.
_NATIONAL_BEFORE = FREE_BEFORE + r"(?<![A-Za-z0-9]-)(?<![0-9][.:,/])(?<!\+)"
_NATIONAL_AFTER = FREE_AFTER + r"(?!-[A-Za-z0-9])(?![.:,/][0-9])"
# Only spaces part it from other numbers, so it must be alone.
_ROW_BEFORE, _ROW_AFTER = _NATIONAL_BEFORE + "(?<![0-9] )", _NATIONAL_AFTER + "(?! [0-9])"

_AMERICA = re.compile(
    rf"{_NATIONAL_BEFORE}(?:(?:1[ -]?)?\({_NANP}\)[ -]?{_NANP}[ .-][0-9]{{4}}"
    rf"|(?:1[ -])?{_NANP}(?:-{_NANP}-|\.{_NANP}\.)[0-9]{{4}}|1[ -]{_NANP} {_NANP}-[0-9]{{4}}){_NATIONAL_AFTER}"
)
_PARTED = re.compile(rf"{_ROW_BEFORE}0[0-9]*(?P<sign>[ -])[0-9]+(?:(?P=sign)[0-9]+)*{_ROW_AFTER}(?!(?P=sign)[0-9])")


def _is_european(match: re.Match[str]) -> bool:
    """Pairs as in France; else an area and two groups or more; else an area and one long group."""
    area, *rest = re.split("[ -]", match[0])
    digits, lengths = len(area) + len("".join(rest)), {len(group) for group in rest}
    if area.startswith("00"):
        return False
    if len(rest) == 1:
        return 3 <= len(area) <= 6 and lengths <= {6, 7, 8} and 9 <= digits <= 12
    if len(area) == 2:
        return (lengths == {2} and digits == 10) or (lengths <= {3, 4} and 9 <= digits <= 11)
    return 3 <= len(area) <= 6 and lengths <= {2, 3, 4} and 10 <= digits <= 12


def _is_behind_zeros(match: re.Match[str]) -> bool:
    """`00` and the country code are a group or two, and at least two follow (one behind `00 49`)."""
    groups = re.split("[ -]", match[0])
    if not groups[0].startswith("00") or len(groups) < 3:
        return False
    code = groups[1] if groups[0] == "00" else groups[0][2:]
    digits = len("".join(groups)) - 2
    return code in COUNTRY_CODES and (digits == 11 if code in ("1", "7") else 8 <= digits <= 13)


phone = any_of(
    _international,
    found(_AMERICA),
    found(_PARTED, 0, lambda match: _is_european(match) or _is_behind_zeros(match)),
)

# Of the countries that the specification names.
PASSPORT_FORMS = {
    "US": "[0-9]{9}|[A-Z][0-9]{8}",
    "GB": "[0-9]{9}",
    "DE": "[CFGHJK][CFGHJKLMNPRTVWXYZ0-9]{8}[0-9]?",
    "FR": "[0-9]{2}[A-Z]{2}[0-9]{5}",
    "ES": "[A-Z]{3}[0-9]{6}",
    "IT": "[A-Z]{2}[0-9]{7}",
    "NL": "[A-NP-Z]{2}[A-NP-Z0-9]{6}[0-9]",
    "JP": "[A-Z]{2}[0-9]{7}",
    "IN": "[A-Z][0-9]{7}",
}
_PASSPORT_WORD = re.compile("passport|passeport|reisepass|pasaporte|passaporto", re.IGNORECASE)


def passport(text: str) -> list[Span]:
    words = [word.end() for word in _PASSPORT_WORD.finditer(text)]
    near = [
        match.span()
        for form in PASSPORT_FORMS.values()
        for match in free(form).finditer(text)
        if any(0 <= len(text[word : match.start()].encode()) <= 30 for word in words if word <= match.start())
    ]
    return without_overlap(iter(near))


# --- Machines -------------------------------------------------------------------------------------------------------

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_QUAD = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_UNSPECIFIC = re.compile(r"0\.0\.0\.0|127\..*|255\.255\.255\.255")
ipv4 = found(
    re.compile(rf"{FREE_BEFORE}(?<![0-9]\.)(?<![vV])(?<![vV][eE][rR][sS][iI][oO][nN] ){_QUAD}{FREE_AFTER}(?!\.[0-9])"),
    0,
    lambda match: _UNSPECIFIC.fullmatch(match[0]) is None,
)

_ADDRESS = re.compile(
    rf"(?P<address>[0-9A-Fa-f:]*:(?:{_QUAD}(?!\.?[0-9])|[0-9A-Fa-f]*(?!\.[0-9])))(?![0-9A-Za-z_:])"
    # An escape behind an address is no zone, unless the address is of a kind that has zones.
    r"(?P<zone>%[A-Za-z0-9_-]{1,32}(?:\.[0-9]+)?)?"
)
_ALONE = re.compile(FREE_BEFORE + r"(?<!:)(?=[0-9A-Fa-f:])")
# `client:2001:db8::1`; not the letter of an escape.
_BEHIND_NAME = re.compile(FREE_BEFORE + r"(?<!\\)[A-Za-z0-9_]*[G-Zg-z_][0-9A-Fa-f]*:(?=[0-9A-Fa-f])")


def ipv6(text: str) -> list[Span]:
    starts = {start.end() for start in _ALONE.finditer(text)} | {name.end() for name in matches(_BEHIND_NAME, text)}
    return without_overlap(
        (start, match.start("zone") if _is_escape(match) else match.end())
        for start in starts
        if (match := _ADDRESS.match(text, start)) and _is_ipv6(match["address"])
    )


def _is_escape(match: re.Match[str]) -> bool:
    zone, local = match["zone"], match["address"].lower().startswith(("fe", "ff"))
    return zone is not None and not local and re.match("%(?!25)[0-9A-Fa-f]{2}", zone) is not None


def _is_ipv6(address: str) -> bool:
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    groups = [group for group in address.split(":") if group]
    # `ab::cd` is a path of C++ or Rust.
    path = len(groups) < 3 and not re.search("[0-9]", address)
    return "::" not in address or (not path and (len(groups) >= 2 or any(len(group) >= 2 for group in groups)))


_PAIR = "[0-9A-Fa-f]{2}"
_MAC = re.compile(
    rf"{FREE_BEFORE}(?:(?<!:){_PAIR}(?::{_PAIR}){{5}}(?!:)|(?<!-){_PAIR}(?:-{_PAIR}){{5}}(?!-)"
    rf"|(?<!\.)[0-9A-Fa-f]{{4}}(?:\.[0-9A-Fa-f]{{4}}){{2}}(?!\.)){FREE_AFTER}"
)


def mac(text: str) -> list[Span]:
    def accept(match: re.Match[str]) -> bool:
        digits = re.sub("[^0-9A-Fa-f]", "", match[0])
        if digits.lower() in ("0" * 12, "f" * 12):
            return False
        if digits.isdigit():
            return "-" in match[0] or (":" in match[0] and match[0] == text)
        return True

    return found(_MAC, 0, accept)(text)


uuid = found(free("[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"))

FINDS: dict[str, Find] = {
    "email": email,
    "credit_card": credit_card,
    "iban": iban,
    "us_ssn": us_ssn,
    "phone": phone,
    "ipv4": ipv4,
    "ipv6": ipv6,
    "mac": mac,
    "uuid": uuid,
    "passport": passport,
}
