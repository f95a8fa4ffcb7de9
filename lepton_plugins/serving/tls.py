"""Whether files for TLS hold what they are to, before anything listens."""

from __future__ import annotations

from pathlib import Path


def check_pair(certificate: Path, key: Path | None) -> None:
    """A certificate and its key (None: in the certificate's file), both PEM; PairInvalid."""
    import ssl

    from lepton_plugins.errors import PairInvalid

    def encrypted() -> str:
        raise PairInvalid(certificate, key, "the key is encrypted, and a server has nobody to ask for the password")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, encrypted)
    except ssl.SSLError as error:
        # OpenSSL has no word for what isn't there.
        reason = error.reason.replace("_", " ").lower() if error.reason else "one of the two isn't in it"
        raise PairInvalid(certificate, key, reason) from None
