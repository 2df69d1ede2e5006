"""TLS for both ports: the context, and what a failed handshake means in words of the settings.

gRPC says little about a failed handshake (UNAVAILABLE, with the same words of BoringSSL for most
faults), so `look` does a second handshake and lets Python say what is wrong. It sends nothing else.

What surprised us: with TLS 1.3 a server refuses a missing client certificate only after the client
believes the handshake is done, so only the first read shows it; gRPC's C server just closes the
connection then.
Python asks on the terminal for the password of an encrypted key. Python 3.13 refuses many
home-made authorities (VERIFY_X509_STRICT) that gRPC accepts.
"""

from __future__ import annotations

import socket
import ssl

from tap_vitess.errors import ConfigError
from tap_vitess.vtgate.address import Tls

_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = {62, 64}
_UNKNOWN_ISSUER = {2, 18, 19, 20, 21}
_CLIENT_REFUSED = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")

SPEAKS_TLS = "the server wants TLS: set tls to true"


def context(tls: Tls) -> ssl.SSLContext:
    """Make the context of the settings.

    Raises:
        ConfigError: a file holds something else than it should.
    """
    try:
        made = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:
        raise ConfigError(
            f"setting tls_ca_file: {tls.ca_file} cannot be read as PEM certificates"
        ) from error
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if tls.cert_file is not None:
        try:
            made.load_cert_chain(tls.cert_file, tls.key_file, password="")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"settings tls_cert_file and tls_key_file: {tls.cert_file} and {tls.key_file} "
                "are not a PEM certificate and its unencrypted key"
            ) from error
    return made


def server_name(tls: Tls, host: str) -> str:
    """Return the name that the server's certificate must carry."""
    return tls.server_name or host


def look(host: str, port: int, tls: Tls | None, timeout: float) -> str | None:
    """Say why no connection comes about on a port that speaks TLS at once, as gRPC's does.

    None: the handshake is not what is wrong.
    """
    if tls is None:
        return SPEAKS_TLS if _speaks_tls(host, port, timeout) else None
    made = context(tls)
    made.set_alpn_protocols(["h2"])
    try:
        welcome = _shake(made, host, port, timeout, server_name(tls, host))
    except OSError as error:
        return explain(error, tls, host)
    return None if welcome else _client_refused(tls)


def explain(error: BaseException | None, tls: Tls, host: str) -> str | None:
    """Say what a failed handshake means; None when it is about something else."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(error, tls, host)
    reason = error.reason or ""
    if "ALERT" in reason and any(word in reason for word in _CLIENT_REFUSED):
        return _client_refused(tls)
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER" in reason:
        return "the server does not speak TLS on this port: check the port, or set tls to false"
    return f"the TLS handshake failed ({reason or error}): check the settings tls and tls_*"


def _client_refused(tls: Tls) -> str:
    if tls.cert_file is None:
        return "the server wants a client certificate: set tls_cert_file and tls_key_file"
    return (
        "the server refuses the client certificate: check that tls_cert_file is of an authority "
        "it trusts, and still valid"
    )


def _unverified(error: ssl.SSLCertVerificationError, tls: Tls, host: str) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "the server's certificate, or its authority's, has expired: renew it on VTGate"
    if code == _NOT_YET_VALID:
        return "the server's certificate is not valid yet: check the clocks"
    if code in _OTHER_NAME:
        return (
            f"the server's certificate is not for {server_name(tls, host)}: set tls_server_name "
            "to a name that it carries, or host"
        )
    if code in _UNKNOWN_ISSUER:
        authority = f"that of tls_ca_file ({tls.ca_file})" if tls.ca_file else "one of the system's"
        return (
            f"the server's certificate is from another authority than {authority}: set tls_ca_file "
            "to the authority's certificate"
        )
    return f"the server's certificate is refused ({error.verify_message}): check tls_ca_file"


def _speaks_tls(host: str, port: int, timeout: float) -> bool:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE  # nothing is sent; only whether it shakes hands counts
    made.set_alpn_protocols(["h2"])
    try:
        _shake(made, host, port, timeout, host)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
    return True


def _shake(made: ssl.SSLContext, host: str, port: int, timeout: float, name: str) -> bool:
    """Shake hands; return whether the server then goes on, as an HTTP/2 server does unasked."""
    with (
        socket.create_connection((host, port), timeout=timeout) as sock,
        made.wrap_socket(sock, server_hostname=name) as wrapped,
    ):
        try:
            return bool(wrapped.recv(1))
        except ConnectionError:
            return False
