"""What each kind of item must be, beyond its bytes: read whole, checked strictly, before anything serves.

``catalogue.json``: what a publisher says of models, to be shown to callers, never read by policy::

    {"format": "allod-catalogue-1", "as_of": "2026-11-25", "source": "...", "licence": "...",
     "models": {"MODEL": {"title", "context_tokens", "max_output_tokens", "retires", "note"}}}

It may carry facts for plans besides (``facts``): ``devices``, ``grids``, ``points`` and, in an entry of
``models``, ``facts``.

``revocations.json``: the vault's own form, a list of ``{"digest", "reason", "at"}``; a digest may be of
weights, an adapter, a template, a publisher's key, a bundle, or a bundle signer's key id.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from allod.domain.errors import AllodError, Integrity, Invalid
from allod.metering.book import Book
from allod.receipts.notes import parse_vkey
from allod.vault import signature
from allod.vault.bundle import facts
from allod.vault.bundle.names import is_digest
from allod.vault.revocation import Revocation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allod.policy.forms import Pack

CATALOGUE: Final = "allod-catalogue-1"
BASE: Final = "base"
SIGNATURE: Final = "pack.sig"
FOLDER: Final = "pack/"
MAX_MODELS: Final = 100_000
MAX_TEXT: Final = 2_000
_LOCKS: Final = (".lock", ".txt")
_DIGEST_OPTION: Final = re.compile(r"--hash=sha256:[0-9a-f]{64}")


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a catalogue says of one model; None and empty is not said. ``retires`` is its last day.

    ``facts`` are for plans only; whoever lists models does not read them.
    """

    title: str = ""
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    retires: date | None = None
    note: str = ""
    facts: facts.ModelFacts | None = None


class Catalogue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A catalogue: day, source and licence of what it says, and the models by name; facts for plans."""

    format: str
    as_of: date
    source: str
    licence: str
    models: dict[str, Told]
    devices: dict[str, facts.DeviceFacts] = {}
    grids: dict[str, facts.GridFacts] = {}
    points: tuple[facts.PointFacts, ...] = ()

    @property
    def plans(self) -> bool:
        """Whether there is anything for plans in it."""
        told = any(one.facts is not None for one in self.models.values())
        return told or bool(self.devices or self.grids or self.points)


class Roots(msgspec.Struct, frozen=True, kw_only=True):
    """Trust roots by file name: certificates and public keys of model publishers, verifier keys of logs."""

    certificates: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()


def pack(name: str, version: str, files: Mapping[str, bytes], schema: str) -> Pack:
    """Read an item's pack under the schema of the base pack.

    Raises:
        Integrity: it is the base pack, which comes with the program, or of another name or version.
        Invalid: it is not what a pack has to be.

    """
    from allod.policy.pack import load_pack  # noqa: PLC0415 (loads Cedar)

    if name == BASE:
        raise Integrity(
            "the base pack does not come by bundle",
            "it holds the schema this version of the program was made for",
            "bring the program instead",
        )
    inside = {path.removeprefix(FOLDER): raw for path, raw in files.items() if path.startswith(FOLDER)}
    programs = [path for path in inside if path.endswith((".py", ".pyc"))]
    if programs:
        _bad(f"pack {name}", f"{programs[0]} is a program")
    found = load_pack(inside, schema)
    if (found.id, found.version) != (name, version):
        _bad(f"pack {name} {version}", f"its folder holds {found.id} {found.version}")
    return found


def prices(name: str, raw: bytes, now_ms: int) -> Book:
    """Read a price book whole: each entry, its date, its source.

    Raises:
        Integrity: it is none, an entry cannot be used, or it does not say when and from where it is.

    """
    book = Book.parse(raw)
    _dated(f"price book {name}", book.as_of, book.source, now_ms)
    for model in book.models:
        book.tariff(model, now_ms)
    return book


def catalogue(name: str, raw: bytes, now_ms: int) -> Catalogue:
    """Read a catalogue (raises ``Integrity``)."""
    try:
        facts.single_keys(raw)
        found = msgspec.json.decode(raw, type=Catalogue)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        _bad(f"catalogue {name}", str(error)[:300])
    if found.format != CATALOGUE:
        _bad(f"catalogue {name}", f"its format is {found.format[:40]!r}, expected {CATALOGUE}")
    _dated(f"catalogue {name}", found.as_of, found.source, now_ms)
    if len(found.models) > MAX_MODELS:
        _bad(f"catalogue {name}", f"it names {len(found.models)} models, allowed are {MAX_MODELS}")
    for model, told in found.models.items():
        texts = (model, told.title, told.note)
        if any(len(text) > MAX_TEXT or not text.isprintable() for text in texts):
            _bad(f"catalogue {name}", f"a text of {model[:80]!r} is too long or not printable")
        if any(n is not None and not 0 < n < 1 << 40 for n in (told.context_tokens, told.max_output_tokens)):
            _bad(f"catalogue {name}", f"a limit of {model[:80]!r} is no number of tokens")
    planned = {model: told.facts for model, told in found.models.items() if told.facts is not None}
    try:
        facts.check(found.devices, planned, found.grids, found.points, now_ms)
    except facts.Wrong as error:
        _bad(f"catalogue {name}", str(error))
    return found


def revocations(name: str, raw: bytes) -> tuple[Revocation, ...]:
    """Read a list of revocations (raises ``Integrity``)."""
    try:
        found = msgspec.json.decode(raw, type=tuple[Revocation, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _bad(f"revocations {name}", str(error))
    for item in found:
        if not is_digest(item.digest) or not item.reason.strip() or len(item.reason) > MAX_TEXT:
            _bad(f"revocations {name}", f"{item.digest[:80]!r} is no digest, or has no reason of {MAX_TEXT}")
    return found


def roots(name: str, files: Mapping[str, bytes]) -> Roots:
    """Read trust roots: ``*.pem`` of certificates or one public key, ``*.vkey`` of a log.

    Raises:
        Integrity: a file is none of these.

    """
    certificates, keys, logs = [], [], []
    for path, raw in files.items():
        try:
            if path.endswith(".vkey"):
                parse_vkey(raw.decode("ascii").strip())
                logs.append(path)
            elif path.endswith(".pem") and b"CERTIFICATE" in raw:
                signature.certificates(raw)
                certificates.append(path)
            elif path.endswith(".pem"):
                signature.public_key(raw)
                keys.append(path)
            else:
                _bad(f"trust {name}", f"{path} is neither .pem nor .vkey")
        except (Invalid, ValueError) as error:
            why = error.why or error.what if isinstance(error, AllodError) else str(error)
            _bad(f"trust {name}", f"{path}: {why}")
    return Roots(certificates=tuple(certificates), keys=tuple(keys), logs=tuple(logs))


def program(name: str, paths: tuple[str, ...], locks: Mapping[str, bytes]) -> str:
    """Check a program's wheels and lock files; return the lock that names every package with its digest.

    Raises:
        Integrity: there is no wheel, no lock, or a lock with an option or a line without a digest.

    """
    if not any(path.endswith(".whl") for path in paths):
        _bad(f"program {name}", "it holds no wheel")
    if not locks:
        _bad(f"program {name}", "it holds no lock file (*.lock or *.txt)")
    chosen = min(locks)
    for path, raw in locks.items():
        for line in _logical_lines(path, raw, name):
            if line.startswith("-"):
                _bad(f"program {name}", f"{path} holds an option: {line[:80]!r}")
            if "==" not in line or not _DIGEST_OPTION.search(line):
                _bad(f"program {name}", f"{path} names a package without version and digest: {line[:80]!r}")
    return chosen


def is_lock(path: str) -> bool:
    """Tell whether a program's file is a lock."""
    return path.endswith(_LOCKS)


def _logical_lines(path: str, raw: bytes, name: str) -> list[str]:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        _bad(f"program {name}", f"{path}: {error}")
    bare = "\n".join(re.sub(r"(^|\s)#.*$", "", line) for line in text.splitlines())
    return [line.strip() for line in bare.replace("\\\n", " ").splitlines() if line.strip()]


def _dated(what: str, as_of: date, source: str, now_ms: int) -> None:
    today = datetime.fromtimestamp(now_ms // 1000, UTC).date()
    if as_of > today + timedelta(days=1):
        _bad(what, f"it speaks of {as_of}, which is to come")
    if not source.strip():
        _bad(what, "it does not say where it is from")


def _bad(what: str, why: str) -> NoReturn:
    raise Integrity(f"{what} cannot be used", why, "ask its publisher for another bundle")
