"""``supply/trust.toml``: who may sign bundles for this home, and what else they need.

    threshold = 1                 # how many distinct signers; at most as many as there are
    root = "sha256:..."           # the publisher's first TUF root
    require_log_proof = true      # proof that the publisher's log holds the bundle
    refuse_stale = true           # false: metadata that has expired is only reported
    grace_days = 0                # days after expiry that are not yet stale
    channels = ["stable"]         # absent: every channel
    log = ["origin+id+base64"]    # verifier keys of logs whose proof counts

    [[signer]]
    name = "supply desk"
    key = "base64"                # 32 bytes of Ed25519, or a verifier key name+id+base64

Whoever can write this file decides what enters: it is the home's own, and no bundle changes it. Its digest
stands in every generation, import receipt and notice of the log.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from allod.domain.errors import Integrity, Invalid
from allod.receipts.notes import b64, parse_vkey, unb64
from allod.store.home import write_file
from allod.vault.blobs import make_private, open_regular, storage_errors
from allod.vault.bundle import names
from allod.vault.bundle.envelope import key_id
from allod.vault.bundle.form import Keyring, Signer

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 256 * 1024
MAX_SIGNERS: Final = 64
DAY_MS: Final = 86_400_000
_KEY_BYTES: Final = 32
_KEY_LETTERS: Final = 44
_MOST_DAYS: Final = 3_660
_MOST_NAME: Final = 80
_KNOWN: Final = frozenset(
    {"threshold", "root", "require_log_proof", "refuse_stale", "grace_days", "channels", "log", "signer"}
)


def public_key(text: str) -> tuple[bytes, str]:
    """Read 32 bytes of Ed25519 as base64 or hex, or a verifier key; return them and the key's own name.

    Raises:
        Invalid: it is none of these.

    """
    try:
        if len(text) == 2 * _KEY_BYTES:
            return bytes.fromhex(text), ""
        if len(text) == _KEY_LETTERS and text.endswith("="):
            return unb64(text, "the key"), ""
        key = parse_vkey(text)
    except (Invalid, Integrity, ValueError) as error:
        raise Invalid(
            "this is no public key",
            f"got {text[:80]!r}, expected 32 bytes of Ed25519 in base64, or a verifier key",
            "ask the signer for it",
            param="key",
        ) from error
    return key.public, key.name


def parse(raw: bytes) -> Keyring:
    """Read a trust file strictly.

    Raises:
        Invalid: not TOML, an unknown key, nobody to trust, or a threshold nobody can reach.

    """
    try:
        data = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise _bad(f"it is no TOML: {error}") from error
    unknown = sorted(data.keys() - _KNOWN)
    if unknown:
        raise _bad(f"unknown keys: {', '.join(unknown)}; known are {', '.join(sorted(_KNOWN))}")
    signers = _signers(_typed(data, "signer", list, []))
    threshold = _typed(data, "threshold", int, 1)
    if not 1 <= threshold <= len(signers):
        raise _bad(f"threshold is {threshold}, there are {len(signers)} signers: expected 1 to that many")
    root = _typed(data, "root", str, "")
    if not names.is_digest(root):
        raise _bad(f"root is {root[:80]!r}, expected the sha256: digest of the publisher's first TUF root")
    channels, logs = _texts(data, "channels"), _texts(data, "log")
    if not all(map(names.is_name, channels)):
        raise _bad(f"channels holds what names no channel: {channels}")
    for vkey in logs:
        parse_vkey(vkey)
    proof = _typed(data, "require_log_proof", bool, True)
    if proof and not logs:
        raise _bad("a log's proof is required and no log is named: name it, or say require_log_proof = false")
    grace = _typed(data, "grace_days", int, 0)
    if not 0 <= grace <= _MOST_DAYS:
        raise _bad(f"grace_days is {grace}, expected 0 to {_MOST_DAYS}")
    return Keyring(
        signers=signers,
        threshold=threshold,
        root=root,
        log_vkeys=logs,
        require_log_proof=proof,
        channels=channels,
        refuse_stale=_typed(data, "refuse_stale", bool, True),
        grace_ms=grace * DAY_MS,
    )


def write(keyring: Keyring) -> bytes:
    """Write a trust file; ``parse`` returns the same keyring."""
    q = json.dumps
    lines = [
        f"threshold = {keyring.threshold}",
        f"root = {q(keyring.root)}",
        f"require_log_proof = {str(keyring.require_log_proof).lower()}",
        f"refuse_stale = {str(keyring.refuse_stale).lower()}",
        f"grace_days = {keyring.grace_ms // DAY_MS}",
    ]
    lines += [f"channels = {q(list(keyring.channels))}"] if keyring.channels else []
    lines += [f"log = {q(list(keyring.log_vkeys))}"] if keyring.log_vkeys else []
    for signer in keyring.signers.values():
        lines += ["", "[[signer]]", f"name = {q(signer.name)}", f"key = {q(b64(signer.public))}"]
    return ("\n".join(lines) + "\n").encode()


def read(path: Path) -> tuple[Keyring, str]:
    """Read a home's trust file; return it with the ``sha256:`` digest of its bytes.

    Raises:
        Invalid: there is none, or it cannot be used. Integrity: others may write it.

    """
    try:
        fd = open_regular(path, "the trust file")
    except Invalid as error:
        raise Invalid(
            "nobody is trusted to sign bundles for this home",
            error.why,
            "say who with `allod bundle trust --key KEY --root FILE --log VKEY`",
            param="trust",
        ) from error
    with os.fdopen(fd, "rb") as file:
        mode = os.fstat(fd).st_mode
        raw = file.read(MAX_BYTES + 1)
    if mode & 0o022:
        raise Integrity(
            f"{path} may be written by others", f"got mode {mode & 0o777:04o}", f"chmod 600 {path}"
        )
    if len(raw) > MAX_BYTES:
        raise _bad(f"it has more than {MAX_BYTES} bytes")
    return parse(raw), "sha256:" + hashlib.sha256(raw).hexdigest()


def keep(path: Path, keyring: Keyring) -> None:
    """Write a home's trust file, replacing it in one rename.

    Raises:
        Invalid: nobody could ever be believed under it. Unavailable: the disk is full or failing.

    """
    raw = write(keyring)
    parse(raw)
    with storage_errors("the trust file could not be stored"):
        make_private(path.parent, path.parent)
        write_file(path, raw, 0o600)


def without(keyring: Keyring, revoked: frozenset[str]) -> Keyring:
    """Leave out signers whose key id is revoked (``sha256:`` and the id)."""
    left = {name: one for name, one in keyring.signers.items() if f"sha256:{name}" not in revoked}
    return msgspec.structs.replace(keyring, signers=left)


def _signers(tables: list[Any]) -> dict[str, Signer]:
    found: dict[str, Signer] = {}
    for table in tables:
        if not isinstance(table, dict) or not {"key"} <= table.keys() <= {"key", "name"}:
            raise _bad("a [[signer]] has a key and a name, and nothing else")
        public, own = public_key(_typed(table, "key", str, ""))
        name = _typed(table, "name", str, "") or own or key_id(public)[:12]
        if len(name) > _MOST_NAME or not name.isprintable():
            raise _bad(f"a signer's name has 1 to {_MOST_NAME} printable characters, got {name[:90]!r}")
        if key_id(public) in found or any(one.name == name for one in found.values()):
            raise _bad(f"signer {name!r} is there twice, by name or key")
        found[key_id(public)] = Signer(public=public, name=name)
    if not 1 <= len(found) <= MAX_SIGNERS:
        raise _bad(f"it names {len(found)} signers, expected 1 to {MAX_SIGNERS}")
    return found


def _texts(data: dict[str, Any], name: str) -> tuple[str, ...]:
    value = _typed(data, name, list, [])
    if not all(isinstance(one, str) for one in value) or len(set(value)) != len(value):
        raise _bad(f"{name} is a list of distinct texts")
    return tuple(value)


def _typed(data: dict[str, Any], name: str, kind: type[Any], default: Any) -> Any:
    value = data.get(name, default)
    if type(value) is not kind:
        raise _bad(f"{name} is {value!r:.60}, expected a {kind.__name__}")
    return value


def _bad(why: str) -> Invalid:
    return Invalid("the trust file cannot be used", why, "correct supply/trust.toml", param="trust")
