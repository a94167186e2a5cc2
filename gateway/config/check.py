"""What a model alone cannot see: keys that refer to each other, files, folders, regexes. All of it at once."""

import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config.destinations import FileDestination
from gateway.config.destinations_check import destination_problems
from gateway.config.document import KeyPath
from gateway.config.encryption import read_wrapping_key
from gateway.config.loader import Loaded, load
from gateway.config.masking_check import check_masking
from gateway.config.models import Config, Relabel, RelabelRule, TenantSettings
from gateway.config.names import is_loopback
from gateway.config.problems import ConfigError, Problem, everybody_may_read
from gateway.config.pseudonyms import parse_key
from gateway.config.quotas import BURSTS, ONLY_FOR, Quotas
from gateway.config.routes_check import check_regex, check_routes
from gateway.config.signing_key import read_signing_key
from gateway.config.tls_check import ca_problems, crl_problems, pair_problems, server_tls_problems
from gateway.types import Signal

Compile = Callable[[Config], None]
"""Compiles the policy as the engine will; raises ValueError with what the engine says."""


def load_checked(file: Path, compile_policy: Compile) -> tuple[Config, tuple[Problem, ...]]:
    """A configuration fit to run, and its warnings. Raises ConfigError with every problem."""
    loaded = load(file)
    problems = list(check(loaded))
    if not any(problem.severity == "error" for problem in problems):
        try:
            compile_policy(loaded.config)
        except ValueError as error:
            problems.append(loaded.problem((), str(error)))
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError(sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return loaded.config, tuple(problems)


def check(loaded: Loaded) -> Iterator[Problem]:
    """Every problem across keys and with the machine."""
    yield from _listeners(loaded)
    yield from _admin(loaded)
    yield from _identity(loaded)
    yield from _folders(loaded)
    yield from _queue_encryption(loaded)
    yield from _audit(loaded)
    yield from _vault(loaded)
    yield from _pseudonym_keys(loaded)
    yield from destination_problems(loaded)
    config = loaded.config
    yield from _settings(loaded, ("defaults",), config.defaults)
    for tenant_id, tenant in config.tenants.items():
        yield from _settings(loaded, ("tenants", tenant_id), tenant)
    yield from check_masking(loaded)
    yield from _keys(loaded)


def _listeners(loaded: Loaded) -> Iterator[Problem]:
    config = loaded.config
    taken: dict[str, str] = {}
    for path, address in (
        (("listen", "grpc"), config.listen.grpc),
        (("listen", "http"), config.listen.http),
        (("admin", "address"), config.admin.address),
    ):
        if address in taken and not address.endswith(":0"):
            yield loaded.problem(path, f"{taken[address]} listens on {address} already")
        taken.setdefault(address, ".".join(path))
    if config.listen.tls is not None:
        yield from server_tls_problems(loaded, ("listen", "tls"), config.listen.tls)
        yield from crl_problems(loaded, ("listen", "tls", "crl_file"), config.listen.tls.crl_file)


def _admin(loaded: Loaded) -> Iterator[Problem]:
    admin = loaded.config.admin
    if admin.tls is not None:
        yield from server_tls_problems(loaded, ("admin", "tls"), admin.tls)
    if not admin.open_to_somebody:
        named = bool(admin.tokens or admin.basic)
        reason = "its credential is empty" if named else "no credential is configured"
        todo = "set the variable or file that it comes from" if named else "add admin.tokens"
        yield loaded.problem(("admin",), f"{reason}, so /_metrics refuses everybody; {todo}", warning=True)

    scopes = {("admin", "tokens", index, "tenant"): token.tenant for index, token in enumerate(admin.tokens)}
    scopes |= {("admin", "basic", index, "tenant"): user.tenant for index, user in enumerate(admin.basic)}
    for path, tenant in scopes.items():
        if tenant != "*" and tenant not in loaded.config.tenants:
            yield loaded.problem(path, f"there is no tenant {tenant}; this credential sees nothing", warning=True)


def _identity(loaded: Loaded) -> Iterator[Problem]:
    listen = loaded.config.listen
    tls = listen.tls
    open_ports = [
        key
        for key, address in (("grpc", listen.grpc), ("http", listen.http))
        if not is_loopback(address.rpartition(":")[0])
    ]
    for index, provider in enumerate(loaded.config.identity):
        if provider.mtls is not None and (tls is None or tls.client_ca_file is None):
            yield loaded.problem(
                ("identity", index, "mtls"), "clients are not asked for a certificate; set listen.tls.client_ca_file"
            )
        if provider.anonymous is not None and provider.anonymous.tenant not in loaded.config.tenants:
            path = ("identity", index, "anonymous", "tenant")
            yield loaded.problem(path, f"there is no tenant {provider.anonymous.tenant}; add it under tenants")
        if provider.anonymous is not None and open_ports and not (tls and tls.client_ca_file):
            where = " and ".join(f"listen.{key}" for key in open_ports)
            message = (
                f"whoever reaches {where} is tenant {provider.anonymous.tenant}; listen on loopback or ask for keys"
            )
            yield loaded.problem(("identity", index, "anonymous"), message, warning=True)
    yield from _oidc(loaded)


def _oidc(loaded: Loaded) -> Iterator[Problem]:
    issuers: set[str] = set()
    for index, provider in enumerate(loaded.config.identity):
        if provider.oidc is None:
            continue
        path = ("identity", index, "oidc")
        if provider.oidc.issuer in issuers:
            # A token's `iss` chooses who verifies it: a second provider of one issuer would never be asked.
            yield loaded.problem((*path, "issuer"), "this issuer stands here already; one provider takes its tokens")
        issuers.add(provider.oidc.issuer)
        yield from ca_problems(
            loaded, (*path, "ca_file"), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), provider.oidc.ca_file
        )


def _folders(loaded: Loaded) -> Iterator[Problem]:
    queue = loaded.config.queue.dir
    if reason := _unwritable(queue):
        yield loaded.problem(("queue", "dir"), f"cannot write to {queue}: {reason}")
    for name, destination in loaded.config.destinations.items():
        if isinstance(destination, FileDestination):
            # Folders named after tenants are made when their first batch comes.
            fixed = Path(str(destination.path).split("{", 1)[0] + "x").parent
            if reason := _unwritable(fixed):
                yield loaded.problem(("destinations", name, "path"), f"cannot write to {fixed}: {reason}")
    usage = loaded.config.usage
    if usage is not None:
        if usage.path.is_dir():
            yield loaded.problem(("usage", "path"), f"{usage.path} is a folder; name a file in it")
        elif reason := _unwritable(usage.path.parent):
            yield loaded.problem(("usage", "path"), f"cannot write to {usage.path.parent}: {reason}")


def _queue_encryption(loaded: Loaded) -> Iterator[Problem]:
    encryption = loaded.config.queue.encryption
    if encryption is None:
        return
    path = ("queue", "encryption")
    files: list[tuple[KeyPath, Path]] = []
    if encryption.key_file is not None:
        files.append(((*path, "key_file"), encryption.key_file))
    files += [((*path, "previous_key_files", index), file) for index, file in enumerate(encryption.previous_key_files)]
    for where, file in files:
        try:
            read_wrapping_key(file)
            others = everybody_may_read(file)
        except (OSError, ValueError) as error:
            yield loaded.problem(where, str(error))
            continue
        if others:
            message = f"everybody may read {file}, and so what waits in the queue; chmod 600 it"
            yield loaded.problem(where, message, warning=True)


def _audit(loaded: Loaded) -> Iterator[Problem]:
    audit = loaded.config.audit
    if audit is None:
        return
    if reason := _unwritable(audit.dir):
        yield loaded.problem(("audit", "dir"), f"cannot write to {audit.dir}: {reason}")
    try:
        read_signing_key(audit.key_file)
        others = everybody_may_read(audit.key_file)
    except (OSError, ValueError) as error:
        yield loaded.problem(("audit", "key_file"), str(error))
        return
    if others:
        message = f"everybody may read {audit.key_file}, and so forge the trail; chmod 600 it"
        yield loaded.problem(("audit", "key_file"), message, warning=True)


def _vault(loaded: Loaded) -> Iterator[Problem]:
    vault = loaded.config.vault
    if vault is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    yield from ca_problems(loaded, ("vault", "ca_file"), context, vault.ca_file)
    if vault.cert_file is not None and vault.key_file is not None:
        yield from pair_problems(loaded, ("vault",), context, vault.cert_file, vault.key_file)
    parts = urlsplit(vault.address)
    if parts.path.strip("/") or parts.query or parts.fragment:
        yield loaded.problem(("vault", "address"), f"leave out the path: write {parts.scheme}://{parts.netloc}")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        message = "token and keys travel without TLS; whoever is on the way has them; use https"
        yield loaded.problem(("vault", "address"), message, warning=True)
    role, pod = vault.auth.app_role, vault.auth.kubernetes
    for path, file in (
        (("auth", "token_file"), vault.auth.token_file),
        (("auth", "app_role", "secret_id_file"), role.secret_id_file if role is not None else None),
        (("auth", "kubernetes", "jwt_file"), pod.jwt_file if pod is not None else None),
    ):
        if file is not None and not os.access(file, os.R_OK):
            # Others write it, perhaps later than the gateway starts.
            yield loaded.problem(
                ("vault", *path), f"cannot read {file} yet; no key comes before it is there", warning=True
            )


def _pseudonym_keys(loaded: Loaded) -> Iterator[Problem]:
    wrapped: dict[Path, str] = {}
    for name, source in loaded.config.pseudonym_keys.items():
        path = ("pseudonym_keys", name)
        if source.kind != "versions" and loaded.config.vault is None:
            message = "there is no Vault to ask; add the section vault with its address and auth"
            yield loaded.problem((*path, source.kind), message)
        for index, version in enumerate(source.versions or ()):
            if version.key_file is not None:
                yield from _pseudonym_key_file(loaded, (*path, "versions", index, "key_file"), version.key_file)
        if source.vault_transit is not None:
            file, where = source.vault_transit.wrapped_keys_file, (*path, "vault_transit", "wrapped_keys_file")
            if file in wrapped:
                yield loaded.problem(
                    where, f"pseudonym_keys.{wrapped[file]} keeps its keys in {file}; name another file"
                )
            elif reason := _unwritable(file.parent):
                yield loaded.problem(where, f"cannot write to {file.parent}: {reason}")
            wrapped.setdefault(file, name)


def _pseudonym_key_file(loaded: Loaded, path: KeyPath, file: Path) -> Iterator[Problem]:
    try:
        parse_key(file.read_bytes())
        others = everybody_may_read(file)
    except OSError as error:
        yield loaded.problem(path, f"cannot read {file}: {error.strerror}")
    except ValueError as error:
        yield loaded.problem(path, f"{file}: {error}")
    else:
        if others:
            message = f"everybody may read {file}, and so find out whose pseudonym is whose; chmod 600 it"
            yield loaded.problem(path, message, warning=True)


def _unwritable(folder: Path) -> str | None:
    """Why `folder` cannot be written to; it, or the nearest parent that exists, is looked at."""
    while not folder.exists() and folder.parent != folder:
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is not a folder"
    return None if os.access(folder, os.W_OK | os.X_OK) else "permission denied"


def _settings(loaded: Loaded, path: KeyPath, settings: TenantSettings) -> Iterator[Problem]:
    yield from check_routes(loaded, path, settings)
    yield from _quotas(loaded, (*path, "quotas"), settings.quotas)
    for name in Relabel.model_fields:
        for index, rule in enumerate(getattr(settings.relabel, name) or ()):
            yield from _relabel_rule(loaded, (*path, "relabel", name, index), rule)


def _quotas(loaded: Loaded, path: KeyPath, quotas: Quotas) -> Iterator[Problem]:
    for signal in Signal:
        quota = quotas.of(signal)
        for rate, burst in BURSTS.items():
            if getattr(quota, burst) is not None and getattr(quota, rate) is None:
                yield loaded.problem((*path, signal.value, burst), f"{burst} needs {rate}")
        for key, only in ONLY_FOR.items():
            if key in quota.model_fields_set and signal is not only:
                yield loaded.problem((*path, signal.value, key), f"{key} is a quota of {only.value}")
        if signal is Signal.METRICS and quota.over_limit == "downsample":
            message = "points cannot be downsampled: a sum would be wrong; use reject or trim"
            yield loaded.problem((*path, signal.value, "over_limit"), message)
        largest = loaded.config.listen.max_request_bytes
        if quota.max_request_bytes is not None and quota.max_request_bytes > largest:
            message = f"listen.max_request_bytes ({largest}) is smaller, and holds as well"
            yield loaded.problem((*path, signal.value, "max_request_bytes"), message, warning=True)


# What Prometheus requires of each action.
_NEEDS_TARGET = {"replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal"}


def _relabel_rule(loaded: Loaded, path: KeyPath, rule: RelabelRule) -> Iterator[Problem]:
    yield from check_regex(loaded, (*path, "regex"), rule.regex)
    if rule.action in _NEEDS_TARGET and not rule.target_label:
        yield loaded.problem(path, f"action {rule.action} needs target_label")
    if rule.action == "hashmod" and rule.modulus == 0:
        yield loaded.problem(path, "action hashmod needs a modulus above 0")
    if rule.action in ("labeldrop", "labelkeep"):
        given = rule.model_fields_set - {"action", "regex"}
        if given:
            yield loaded.problem(path, f"action {rule.action} takes regex only, not {', '.join(sorted(given))}")
    if rule.action in ("keepequal", "dropequal") and "regex" in rule.model_fields_set:
        yield loaded.problem(path, f"action {rule.action} compares labels and takes no regex")


def _keys(loaded: Loaded) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for tenant_id, tenant in loaded.config.tenants.items():
        for index, key in enumerate(tenant.api_keys):
            digest, owner = key.sha256.lower(), f"key {key.id} of {tenant_id}"
            if digest in seen:
                path = ("tenants", tenant_id, "api_keys", index, "sha256")
                yield loaded.problem(path, f"{seen[digest]} has the same hash; every key is one tenant's")
            seen.setdefault(digest, owner)
