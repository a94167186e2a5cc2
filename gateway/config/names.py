"""Text of the configuration that has a form: names of tenants, addresses, URLs."""

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

_TENANT_ID = re.compile(r"[A-Za-z0-9!_.*'()-]{1,150}")


def is_tenant_id(value: str) -> bool:
    """Whether a tenant could have this name: the characters that Mimir, Loki and Tempo allow; `|` separates there."""
    return _TENANT_ID.fullmatch(value) is not None and value not in (".", "..")


def _tenant_id(value: str) -> str:
    if not is_tenant_id(value):
        raise ValueError("a tenant's name is 1 to 150 of the characters A-Z a-z 0-9 ! _ . * ' ( ) -")
    return value


def is_loopback(host: str) -> bool:
    """Whether what goes to `host` stays on this machine. IPv6 may stand in brackets."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or not host:
        raise ValueError("write an address as HOST:PORT, such as 127.0.0.1:4317 or [::1]:4317")
    return value


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^/@?#\s]+(/[^\s]*)?", value):
        raise ValueError("write a URL as http://HOST:PORT/PATH; credentials go into basic_auth or bearer_token")
    try:
        port = urlsplit(value).port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("the URL's host or port is not usable; a port is 1 to 65535, IPv6 stands in []")
    return value


def _attribute_pattern(value: str) -> str:
    if not value:
        raise ValueError("an attribute key cannot be empty")
    return value


TenantId = Annotated[str, AfterValidator(_tenant_id)]
Address = Annotated[str, AfterValidator(_address)]
Url = Annotated[str, AfterValidator(_url)]
AttributePattern = Annotated[str, AfterValidator(_attribute_pattern)]
