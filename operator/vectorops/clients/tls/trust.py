"""Whose certificates are believed: the system's CAs, or the CA that a Secret holds; and why one was not believed.

A CA of a Secret is believed alone, beside it no CA of the system: whoever names one means that one. What OpenSSL says
is put into fixed words. Refused: switching verification off, versions before TLS 1.2, files named by a Secret.
"""

from __future__ import annotations

import ssl

from vectorops.errors import Reason, Stalled

UNKNOWN_CA = frozenset({2, 18, 19, 20, 21})  # OpenSSL's X509_V_ERR_*: no issuer found, or one that is not ours
EXPIRED, NOT_YET = 10, 9
OTHER_NAME = frozenset({62, 64})  # of a host, of an address
NO_ANSWER = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})


def trusting(ca_pem: str | None, field: str) -> ssl.SSLContext:
    """For a client that verifies chain and name. Raises Stalled(SecretInvalid) naming `field`, the CA's origin."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    trust(context, ca_pem, field)
    return context


def trust(context: ssl.SSLContext, ca_pem: str | None, field: str) -> None:
    """Load the CA, or the system's where there is none. Raises Stalled(SecretInvalid)."""
    if ca_pem is None:
        context.load_default_certs()
        return
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError, TypeError):  # the last one is what other than ASCII raises
        text = f"The CA in {field} is no PEM certificate; put one there."
        raise Stalled(Reason.SecretInvalid, text) from None


def flaw(error: BaseException | None) -> str | None:
    """What is wrong between us and the server's TLS, as a clause about the server; None where it is something else."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return _certificate(error.verify_code)
        if isinstance(error, ssl.SSLError):
            return None if isinstance(error, NO_ANSWER) else _handshake(error)
        error = error.__cause__ or error.__context__
    return None


def _certificate(code: int) -> str:
    if code in UNKNOWN_CA:
        return "its certificate is signed by no CA that is trusted here"
    if code == EXPIRED:
        return "its certificate, or its CA's, has expired"
    if code == NOT_YET:
        return "its certificate, or its CA's, is not valid yet"
    if code in OTHER_NAME:
        return "its certificate is for another name"
    return f"its certificate cannot be verified (OpenSSL says {code})"


def _handshake(error: ssl.SSLError) -> str:
    return "it speaks no TLS on this port" if error.reason in NO_TLS else "the TLS handshake failed"
