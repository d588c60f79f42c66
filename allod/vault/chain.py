"""A chain of certificates from a signer to a root of one's own (RFC 5280, the part that model signing needs).

The verifiers of web servers demand what a signing certificate does not have (a host name), hence this one.
Only issuers that are certificate authorities by their own words count, every certificate must be valid at the
time asked about, an unknown critical extension ends the search, and revocation is by the vault's own list: no
list or server is asked.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final, NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from allod.domain.errors import Integrity

if TYPE_CHECKING:
    from collections.abc import Sequence

MALFORMED: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for a certificate or key that is none."""
_UNDERSTOOD = frozenset(
    {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE}
)
_MINUTE = "%Y-%m-%d %H:%M"
_NAMED = _UNDERSTOOD | {ExtensionOID.SUBJECT_ALTERNATIVE_NAME}


def _broken(why: str) -> NoReturn:
    raise Integrity(
        "the certificate of this signature is not trusted", why, "name the root that its publisher gave you"
    )


def _extensions(certificate: x509.Certificate) -> x509.Extensions:
    try:
        return certificate.extensions
    except MALFORMED as error:
        _broken(f"its extensions are malformed: {error}")


def _check_common(certificate: x509.Certificate, now: dt.datetime, understood: frozenset[object]) -> None:
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        begins = certificate.not_valid_before_utc.strftime(_MINUTE)
        ends = certificate.not_valid_after_utc.strftime(_MINUTE)
        name = certificate.subject.rfc4514_string() or "its certificate"
        _broken(f"{name} is valid from {begins} to {ends}, not on {now:{_MINUTE}}")
    for extension in _extensions(certificate):
        if extension.critical and extension.oid not in understood:
            _broken(f"it has the critical extension {extension.oid.dotted_string}, which is not understood")


def _check_leaf(leaf: x509.Certificate) -> None:
    extensions = _extensions(leaf)
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        _broken("it does not say that it may sign code (key usage and extended key usage)")
    if not usage.digital_signature or ExtendedKeyUsageOID.CODE_SIGNING not in purposes:
        _broken("it may not sign code")
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            _broken("it is an authority's certificate, not a signer's")
    except x509.ExtensionNotFound:
        pass


def _issues(issuer: x509.Certificate, issued: x509.Certificate, below: int) -> bool:
    """Tell whether a certificate is an authority's, signed the other one, and allows what is below it."""
    extensions = _extensions(issuer)
    try:
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    try:
        signs = extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        signs = True
    if not basic.ca or not signs or (basic.path_length is not None and basic.path_length < below):
        return False
    try:
        issued.verify_directly_issued_by(issuer)
    except (InvalidSignature, *MALFORMED):
        return False
    return True


def verify(
    raw: Sequence[bytes], roots: tuple[x509.Certificate, ...], now: dt.datetime, *, named: bool = False
) -> x509.Certificate:
    """Follow certificates (DER, signer first, each issued by the next) to one of the roots at ``now`` (UTC).

    ``named`` lets the signer's own certificate hold a critical alternative name, which the caller judges.

    Raises:
        Integrity: malformed, expired, not for signing code, or not under one of the roots.

    """
    if now.tzinfo is None:
        now = now.replace(tzinfo=dt.UTC)
    try:
        chain = [x509.load_der_x509_certificate(item) for item in raw]
    except MALFORMED as error:
        _broken(f"it is malformed: {error}")
    _check_leaf(chain[0])
    for depth, certificate in enumerate(chain):
        _check_common(certificate, now, _NAMED if named and depth == 0 else _UNDERSTOOD)
        for root in roots:
            if certificate == root and depth > 0:
                return chain[0]
            if _issues(root, certificate, depth):
                _check_common(root, now, _UNDERSTOOD)
                return chain[0]
        if depth + 1 == len(chain) or not _issues(chain[depth + 1], certificate, depth):
            break
    name = chain[0].subject.rfc4514_string() or "its certificate"
    _broken(f"{name} does not lead to one of the {len(roots)} trusted roots")
