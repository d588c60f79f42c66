"""``bundle.json``: what a bundle holds, byte by byte, in canonical JSON (RFC 8785 profile of the receipts).

Everything else in a bundle follows from these bytes: the OCI manifests and the index are written from them
and must be equal (``layout``), the signatures (``envelope``), the update metadata (``metadata``) and the
log's proof are over their digest. So there is one reader of structure, and it is this one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from typing import Any, Final, Literal, NoReturn, get_args

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.receipts.canonical import canonical, parse
from allod.receipts.notes import valid_name
from allod.vault.bundle import names

Kind = Literal["model", "pack", "prices", "catalogue", "trust", "revocations", "program"]

FORMAT: Final = "allod-bundle-1"
KINDS: Final[tuple[str, ...]] = get_args(Kind)
MAX_BUNDLE_BYTES: Final = 8 * 1024 * 1024
MAX_ITEMS: Final = 1_024
MAX_PARTS: Final = 16_384
MAX_AUDIENCE: Final = 256
MAX_NOTES: Final = 4_096
MAX_ORIGIN: Final = 200
MAX_NUMBER: Final = 2**53 - 1
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_IMPORTER: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}")

WEIGHTS: Final = (".gguf", ".safetensors")
MODEL_FILES: Final = "files/"
MODEL_PAPERS: Final = "papers/"
_PACKED: Final[dict[str, str]] = {
    "pack": "application/vnd.allod.pack.file.v1",
    "prices": "application/vnd.allod.prices.v1+json",
    "catalogue": "application/vnd.allod.catalogue.v1+json",
    "trust": "application/vnd.allod.trust.v1",
    "revocations": "application/vnd.allod.revocations.v1+json",
    "program": "application/vnd.allod.program.v1",
}
_ONE_FILE: Final = {
    "prices": "prices.json",
    "catalogue": "catalogue.json",
    "revocations": "revocations.json",
}
_MODEL: Final[dict[str, str]] = {
    "manifest.json": "application/vnd.allod.model-manifest.v1+json",
    "bom.cdx.json": "application/vnd.cyclonedx+json",
    "model.sig": "application/vnd.dev.sigstore.bundle.v0.3+json",
}


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of an item.

    ``path`` is relative within its item, ``digest`` is ``sha256:`` and the name of its blob, and
    ``media_type`` is what ``media_type`` says for this kind and path.
    """

    path: str
    digest: str
    size_bytes: int
    media_type: str


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to import.

    Paths by kind: a ``model`` has ``manifest.json`` (the vault's), ``bom.cdx.json``, ``files/NAME``,
    ``papers/HEX`` and perhaps ``model.sig`` (as ``allod.vault.carry`` exports it, without ``folder.sig``); a
    ``pack`` has ``pack/...``, the folder of the pack, and perhaps ``pack.sig``; ``prices``, ``catalogue`` and
    ``revocations`` one file ``<kind>.json``; ``trust`` any files; ``program`` wheels (``*.whl``), lock files
    and texts, all at the top. ``digest`` is the OCI manifest's (``layout.manifest``); parts are sorted by
    path.
    """

    kind: Kind
    name: str
    version: str
    digest: str
    parts: tuple[Part, ...]


class Bundle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was signed.

    Attributes:
        format: ``allod-bundle-1``.
        channel: a publisher's line of bundles; ``number`` grows in it, from 1.
        created_at: RFC 3339, UTC with milliseconds.
        source: origin of the log that holds this bundle's digest.
        audience: origins of the homes it is for; empty is any.
        min_importer: the oldest version of Allod that may import it, as ``1.2.3``.
        items: sorted by kind and name, no two of one kind and name.
        notes: a text for whoever imports it, at most 4,096 characters.

    """

    format: str
    channel: str
    number: int
    created_at: str
    source: str
    audience: tuple[str, ...]
    min_importer: str
    items: tuple[Item, ...]
    notes: str

    @property
    def created_ms(self) -> int:
        """When it was made, UTC milliseconds."""
        return int(dt.datetime.fromisoformat(self.created_at).timestamp() * 1000)

    @property
    def size_bytes(self) -> int:
        """The bytes of all distinct parts: what an import writes at most."""
        return sum({part.digest: part.size_bytes for item in self.items for part in item.parts}.values())

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every part of every item, in order."""
        return tuple(part for item in self.items for part in item.parts)


class Signer(msgspec.Struct, frozen=True, kw_only=True):
    """A key that may sign bundles: 32 bytes of Ed25519, and whose it is."""

    public: bytes
    name: str


class Keyring(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a home believes; made from its ``trust.toml``.

    Attributes:
        signers: by key id (SHA-256 of the raw public key, hex).
        threshold: how many distinct signers must have signed, at least 1.
        root: the first TUF root that this home was given, by its ``sha256:`` digest; the chain goes on from
            it.
        log_vkeys: verifier keys of logs whose proof counts.
        require_log_proof: whether a bundle without the log's proof is refused.
        channels: the channels that may be imported; empty is any.
        refuse_stale: whether a bundle whose metadata has expired is refused, or only reported as stale.
        grace_ms: how long after expiry it is not yet stale.

    """

    signers: dict[str, Signer]
    threshold: int = 1
    root: str
    log_vkeys: tuple[str, ...] = ()
    require_log_proof: bool = True
    channels: tuple[str, ...] = ()
    refuse_stale: bool = True
    grace_ms: int = 0


class Seen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last bundle imported on a channel: its number, its digest, and versions of its TUF metadata."""

    number: int
    digest: str
    timestamp: int
    snapshot: int
    targets: int


class Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a home has imported; kept by the importer, given to ``open_bundle``, replaced by ``known_after``.

    Attributes:
        root_version: the newest TUF root seen on any channel, 0 before the first; ``root`` is its digest.
        seen_ms: the latest clock reading of an import, UTC milliseconds; a clock before it is wrong.
        channels: per channel what was last imported.
        revoked: digests of bundles that may not be imported.

    """

    root_version: int = 0
    root: str = ""
    seen_ms: int = 0
    channels: dict[str, Seen] = {}
    revoked: tuple[str, ...] = ()


def media_type(kind: str, path: str) -> str:
    """Return the only media type that a part of this kind at this path may have (ModelPack for weights).

    Raises:
        Integrity: an item of this kind has no part at this path.

    """
    fixed = _ONE_FILE.get(kind)
    if kind == "model":
        return _model_media(path)
    if kind == "pack" and not (path.startswith("pack/") or path == "pack.sig"):
        _bad(f"a pack has no part {path[:200]!r}; it has pack/... and pack.sig")
    if fixed is not None and path != fixed:
        _bad(f"{kind} is one file {fixed}, got {path[:200]!r}")
    if kind == "program" and "/" in path:
        _bad(f"a program's files lie at the top, got {path[:200]!r}")
    return _PACKED[kind]


def _model_media(path: str) -> str:
    if path in _MODEL:
        return _MODEL[path]
    folder, slash, name = path.partition("/")
    if not slash or "/" in name or folder + slash not in {MODEL_FILES, MODEL_PAPERS}:
        _bad(f"a model has no part {path[:200]!r}")
    if folder + slash == MODEL_PAPERS:
        if not names.is_digest("sha256:" + name):
            _bad(f"a paper is named by its digest, got {name[:80]!r}")
        return "application/vnd.cncf.model.doc.v1.raw"
    if name.endswith(WEIGHTS):
        return "application/vnd.cncf.model.weight.v1.raw"
    return "application/vnd.cncf.model.weight.config.v1.raw"


def digest_of(raw: bytes) -> str:
    """Digest bytes as ``sha256:`` and hex."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def encode(bundle: Bundle) -> bytes:
    """Write ``bundle.json`` in canonical form.

    Raises:
        Invalid: it is one that ``decode`` would refuse.

    """
    raw = canonical(msgspec.to_builtins(bundle))
    try:
        decode(raw)
    except Integrity as error:
        raise Invalid("this bundle cannot be written", error.why or error.what, error.remedy) from error
    return raw


def decode(raw: bytes) -> Bundle:
    """Read ``bundle.json`` strictly.

    Raises:
        Integrity: too large, not canonical, an unknown field, a name or path that is not safe, a media type
            that does not belong there, a digest of another algorithm, or two items or paths that are one.

    """
    if len(raw) > MAX_BUNDLE_BYTES:
        _bad(f"it has {len(raw)} bytes, allowed are {MAX_BUNDLE_BYTES}")
    value: Any = parse(raw, what="bundle.json")
    try:
        bundle = msgspec.convert(value, Bundle)
    except msgspec.ValidationError as error:
        _bad(str(error))
    _check_head(bundle)
    keys = [(item.kind, item.name) for item in bundle.items]
    if keys != sorted(set(keys)):
        _bad("its items are not sorted by kind and name, or two are of one kind and name")
    if not 0 < len(bundle.items) <= MAX_ITEMS or len(bundle.parts) > MAX_PARTS:
        _bad(f"allowed are 1 to {MAX_ITEMS} items with {MAX_PARTS} parts together")
    for item in bundle.items:
        _check_item(item)
    sizes: dict[str, int] = {}
    for part in bundle.parts:
        if sizes.setdefault(part.digest, part.size_bytes) != part.size_bytes:
            _bad(f"{part.digest} is given two sizes")
    return bundle


def _check_head(bundle: Bundle) -> None:
    if bundle.format != FORMAT:
        _bad(f"its format is {bundle.format[:40]!r}, this version reads {FORMAT}")
    if not names.is_name(bundle.channel):
        _bad(f"{bundle.channel[:80]!r} is no channel")
    if not 1 <= bundle.number <= MAX_NUMBER:
        _bad(f"its number is {bundle.number}, the first is 1")
    time_of(bundle.created_at)
    if not _is_origin(bundle.source):
        _bad(f"{bundle.source[:80]!r} is no log's origin")
    audience = list(bundle.audience)
    if (
        len(audience) > MAX_AUDIENCE
        or not all(map(_is_origin, audience))
        or audience != sorted(set(audience))
    ):
        _bad(f"its audience is not at most {MAX_AUDIENCE} distinct origins in order")
    version_of(bundle.min_importer)
    if len(bundle.notes) > MAX_NOTES:
        _bad(f"its notes have {len(bundle.notes)} characters, allowed are {MAX_NOTES}")


def _is_origin(text: str) -> bool:
    return len(text) <= MAX_ORIGIN and valid_name(text)


def _check_item(item: Item) -> None:
    label = f"{item.kind} {item.name[:80]}"
    if not names.is_name(item.name) or not names.is_version(item.version):
        _bad(f"{item.name[:80]!r} {item.version[:80]!r} is no name and version")
    if not names.is_digest(item.digest):
        _bad(f"the digest of {label} is not sha256: and 64 hex digits")
    paths = [part.path for part in item.parts]
    if not paths or paths != sorted(paths):
        _bad(f"{label} has no parts, or they are not sorted by path")
    for part in item.parts:
        names.check_path(part.path)
        if not names.is_digest(part.digest):
            _bad(f"the digest of {part.path[:200]!r} is not sha256: and 64 hex digits")
        if not 0 <= part.size_bytes <= MAX_NUMBER:
            _bad(f"{part.path[:200]!r} has no possible size")
        expected = media_type(item.kind, part.path)
        if part.media_type != expected:
            _bad(f"{part.path[:200]!r} in {label} is {part.media_type[:80]!r}, expected {expected}")
        if part.path.startswith(MODEL_PAPERS) and "sha256:" + part.path.rpartition("/")[2] != part.digest:
            _bad(f"{part.path[:200]!r} has another digest than its name says")
    names.check_distinct(paths)
    required = {"model": ("manifest.json", "bom.cdx.json"), "pack": ("pack/pack.toml",)}.get(item.kind, ())
    missing = [path for path in required if path not in paths]
    if missing or (item.kind == "model" and not any(path.startswith(MODEL_FILES) for path in paths)):
        _bad(f"{label} lacks {', '.join(missing) or 'files/'}")


def time_of(text: str) -> int:
    """Return UTC milliseconds of an RFC 3339 time with milliseconds (raises ``Integrity``)."""
    try:
        if not _TIME.fullmatch(text):
            raise ValueError  # noqa: TRY301 (one error for both)
        return int(dt.datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        _bad(f"{text[:40]!r} is not a time in UTC with milliseconds")


def version_of(text: str) -> tuple[int, ...]:
    """Return a version ``1.2.3`` as four numbers to compare (raises ``Integrity``)."""
    if not _IMPORTER.fullmatch(text):
        _bad(f"{text[:40]!r} is not a version of up to four numbers")
    numbers = tuple(map(int, text.split(".")))
    return numbers + (0,) * (4 - len(numbers))


def _bad(why: str) -> NoReturn:
    raise Integrity("bundle.json cannot be used", why, "get the bundle again from its publisher")
