"""One client of one Vault, in one thread: logged in, kept logged in, explicit about everything.

hvac reads VAULT_… variables and ~/.vault-token, and requests proxies and .netrc, for whatever they are not told. They
are told all of it here: a variable that somebody set for the command line must not decide where keys come from.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.config.pseudonyms import AppRole, KubernetesLogin, VaultConfig
from gateway.pseudonyms.source import SourceProblem
from gateway.pseudonyms.vault_problems import Asked, VaultDenied, VaultMissing, of_network, of_node, of_status

# A lease is renewed after this part of it, as Vault's own agent does.
_RENEW_AFTER = 2 / 3
_SHORTEST_WAIT_S = 1.0

Question = Callable[[Any], Any]
"""Asks an hvac.Client one thing."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A token and how long it lasts."""

    token: str = field(repr=False)
    duration_s: float  # 0: for ever, or not known
    first_duration_s: float  # when it was new; a renewal that gives much less has met the maximum
    renewable: bool
    renew_at: float | None  # monotonic


class VaultSession:
    """Not for two threads at once."""

    def __init__(self, settings: VaultConfig, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._client: Any = None
        self._status = 0
        self._lease: Lease | None = None
        self.logins = 0
        self.renewals = 0
        self.warning: str | None = None
        """What people should know about the token."""

    def ask(self, asked: Asked, question: Question) -> dict[str, Any]:
        """The answer's JSON object. Raises SourceProblem."""
        if self._lease is None:
            self._log_in()
        try:
            return self._send(asked, question)
        except VaultDenied:
            # Vault says 403 of a token that has ended as of a path that it may not use. The default policy lets a token
            # look itself up, so one that cannot is no longer one.
            if self._token_lives():
                raise
        self._log_in()
        try:
            return self._send(asked, question)
        except VaultDenied:
            raise self._denied_again(asked) from None

    def keep_logged_in(self) -> float | None:
        """Renew or replace the token if it is time. Returns seconds until it is; None: never. Raises SourceProblem."""
        lease = self._lease
        if lease is None or lease.renew_at is None:
            return None
        if self._monotonic() >= lease.renew_at:
            self._renew(lease)
            lease = self._lease
        if lease is None or lease.renew_at is None:
            return None
        return max(0.0, lease.renew_at - self._monotonic())

    def close(self) -> None:
        self._lease = None
        self._disconnect()

    # Tokens.

    def _renew(self, lease: Lease) -> None:
        if lease.renewable:
            asked = Asked("auth/token/renew-self", "update")
            try:
                auth = _object(asked, self._send(asked, lambda client: client.auth.token.renew_self()), "auth")
            except (VaultDenied, VaultMissing):
                pass  # It has ended: a new one is due.
            except SourceProblem:
                if self._status != 400:
                    raise
            else:
                self.renewals += 1
                self._hold(lease.token, auth, first_duration_s=lease.first_duration_s)
                duration_s = float(auth.get("lease_duration") or 0)
                if self._settings.auth.token is not None or duration_s * 2 >= lease.first_duration_s:
                    return
        self._log_in()

    def _log_in(self) -> None:
        """Raises SourceProblem."""
        self._lease = None
        self._connect().token = ""
        auth = self._settings.auth
        if auth.app_role is not None:
            self._log_in_by_role(auth.app_role)
        elif auth.kubernetes is not None:
            self._log_in_by_pod(auth.kubernetes)
        elif auth.token_file is not None:
            self._use(_read("vault.auth.token_file", auth.token_file))
        elif auth.token is not None:
            self._use(auth.token.get_secret_value())
        self.logins += 1

    def _log_in_by_role(self, role: AppRole) -> None:
        secret_id = role.secret_id.get_secret_value() if role.secret_id is not None else None
        if role.secret_id_file is not None:
            secret_id = _read("vault.auth.app_role.secret_id_file", role.secret_id_file)
        login = {"role_id": role.role_id.get_secret_value()}
        if secret_id is not None:
            login["secret_id"] = secret_id
        hint = "check role_id and secret_id; a secret id may have ended or be used up"
        self._log_in_at(role.mount, login, "app_role", hint)

    def _log_in_by_pod(self, login: KubernetesLogin) -> None:
        token = _read("vault.auth.kubernetes.jwt_file", login.jwt_file)
        hint = "check the role, and that it is bound to this pod's service account and namespace"
        self._log_in_at(login.mount, {"role": login.role, "jwt": token}, "kubernetes", hint)

    def _log_in_at(self, mount: str, login: dict[str, str], method: str, hint: str) -> None:
        asked = Asked(f"auth/{mount}/login", "update")
        url = f"/v1/{asked.path}"
        try:
            answer = self._send(asked, lambda client: client.adapter.login(url, use_token=False, json=login))
        except VaultMissing:
            raise SourceProblem(f"vault: there is no {asked.path}; enable {method} there, or set mount") from None
        except SourceProblem:
            if self._status not in (400, 401, 403):
                raise
            raise SourceProblem(f"vault: login by {method} is refused at {asked.path}: {hint}") from None
        auth = _object(asked, answer, "auth")
        token = auth.get("client_token")
        if not isinstance(token, str) or not token:
            raise SourceProblem(f"vault: {asked.path} gave no token; is a second factor asked for?")
        self._hold(token, auth)

    def _use(self, token: str) -> None:
        """A token that we were given: it says itself how long it lasts."""
        self._connect().token = token
        asked = Asked("auth/token/lookup-self", "read")
        try:
            data = _object(asked, self._send(asked, lambda client: client.auth.token.lookup_self()), "data")
        except VaultDenied:
            # It may be good and only not allowed to do this; the next question tells.
            data = {}
        self._hold(token, {"lease_duration": data.get("ttl"), "renewable": data.get("renewable")})

    def _hold(self, token: str, auth: dict[str, Any], *, first_duration_s: float | None = None) -> None:
        duration_s = float(auth.get("lease_duration") or 0)
        renewable = auth.get("renewable") is True
        renew_at: float | None = self._monotonic() + max(duration_s * _RENEW_AFTER, _SHORTEST_WAIT_S)
        self.warning = None
        if duration_s <= 0:
            renew_at = None
        elif not renewable and self._settings.auth.token is not None:
            renew_at = None
            self.warning = f"vault: the token cannot be renewed and ends in {duration_s:.0f} s; put a new one in time"
        self._connect().token = token
        self._lease = Lease(token, duration_s, first_duration_s or duration_s, renewable, renew_at)

    def _token_lives(self) -> bool:
        asked = Asked("auth/token/lookup-self", "read")
        try:
            self._send(asked, lambda client: client.auth.token.lookup_self())
        except VaultDenied:
            return False
        return True

    def _denied_again(self, asked: Asked) -> VaultDenied:
        for name in ("token", "token_file"):
            if getattr(self._settings.auth, name) is not None and not self._token_lives():
                self._lease = None
                return VaultDenied(
                    f"vault: permission denied {asked.doing}: the token has ended or is unknown; "
                    f"put a new one into vault.auth.{name}"
                )
        return asked.denied()

    # Requests.

    def _send(self, asked: Asked, question: Question) -> dict[str, Any]:
        """Raises SourceProblem, which keeps nothing of the request."""
        import hvac.exceptions
        import requests

        client, self._status = self._connect(), 0
        try:
            answer = question(client)
        except hvac.exceptions.VaultError as error:
            problem = of_status(asked, self._status, error.errors)
            if self._status == 429 or self._status >= 472:
                problem = self._node_state() or problem
        except (requests.RequestException, OSError, ValueError) as error:
            # A new connection reads the CA and certificate files again.
            self._disconnect()
            problem = of_network(self._settings.address, error, self._settings.timeout)
        except (TypeError, AttributeError, KeyError):
            # hvac takes the answer apart before we see it.
            problem = _not_vault(asked)
        else:
            if isinstance(answer, dict):
                return answer
            problem = of_status(asked, self._status, None)
            if 200 <= self._status < 300:
                problem = _not_vault(asked)
        # Outside of `except`: the exceptions of requests carry the request and its token.
        raise problem

    def _node_state(self) -> SourceProblem | None:
        """What sys/health has to say about a node that does not answer."""
        import requests

        status = self._status
        try:
            self._connect().sys.read_health_status(method="GET")
        except (requests.RequestException, OSError, ValueError):
            return None
        health, self._status = self._status, status
        return of_node(health)

    def _connect(self) -> Any:
        if self._client is None:
            import hvac
            import requests

            settings = self._settings
            session = requests.Session()
            session.trust_env = False
            session.verify = str(settings.ca_file) if settings.ca_file is not None else True
            if settings.cert_file is not None and settings.key_file is not None:
                session.cert = (str(settings.cert_file), str(settings.key_file))
            session.hooks["response"] = [self._remember_status]
            self._client = hvac.Client(
                url=settings.address,
                token=self._lease.token if self._lease is not None else "",
                cert=session.cert or "",  # None would be looked for in VAULT_CLIENT_CERT
                verify=session.verify,
                timeout=settings.timeout,
                proxies={},
                allow_redirects=False,  # the token would go wherever the answer says
                session=session,
                namespace=settings.namespace,
            )
        return self._client

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.adapter.close()
            self._client = None

    def _remember_status(self, response: Any, *_: object, **__: object) -> None:
        # hvac forgets which of the less usual statuses it was.
        self._status = response.status_code


def _read(key: str, file: Path) -> str:
    """A credential in a file. Raises SourceProblem."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SourceProblem(f"vault: {key}: cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable():
        raise SourceProblem(f"vault: {key}: {file} must hold one line of text")
    return text


def _not_vault(asked: Asked) -> SourceProblem:
    return SourceProblem(f"vault: what {asked.path} answers is not what Vault says; is vault.address that of Vault?")


def _object(asked: Asked, answer: dict[str, Any], name: str) -> dict[str, Any]:
    """Raises SourceProblem."""
    inner = answer.get(name)
    if not isinstance(inner, dict):
        raise _not_vault(asked)
    return inner
