"""TLS of the admin port, which follows its files while connections stay open."""

import ssl

from gateway.config.tls import ServerTls


class PortTls(ssl.SSLContext):
    """Makes each new connection with what the files held when they were read last.

    A context of the standard library cannot forget a CA, and a server cannot be given another context; so this one
    hands each handshake to the newest of a line of contexts, each of which never changes.
    """

    def __new__(cls, _tls: ServerTls) -> "PortTls":
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, tls: ServerTls) -> None:
        """Raises ValueError, as `read` does."""
        self._files = tls
        self._newest = _context(tls)

    def read(self) -> None:
        """Use what the files hold now. Raises ValueError, with the key at fault; then what was used before stays."""
        self._newest = _context(self._files)

    def still_trusts(self, connection: ssl.SSLObject) -> bool:
        """Whether every CA that let this connection's certificate in is one today."""
        if connection.context is self._newest:
            return True
        then, now = (set(context.get_ca_certs(binary_form=True)) for context in (connection.context, self._newest))
        return then <= now

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return self._newest.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def _context(tls: ServerTls) -> ssl.SSLContext:
    """A client certificate is asked for, and one that is shown must be good."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ValueError(
            f"cert_file: {tls.cert_file} and {tls.key_file} are no pair that can be used: {error}"
        ) from None
    if tls.client_ca_file is not None:
        try:
            context.load_verify_locations(tls.client_ca_file)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"client_ca_file: {tls.client_ca_file} cannot be used: {error}") from None
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
