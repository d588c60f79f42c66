# ruff: noqa: E501 (one case a line)
"""What lies around weights, sound and hostile: names, reports, the register of a vault. Called by ``make.py``."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519

PAYLOAD = "application/vnd.in-toto+json"


def names() -> dict[str, tuple[Any, str]]:
    """Return names that files of one folder have."""
    cases: dict[str, tuple[list[str], str]] = {
        "names_fold": (["config.json", "Config.json"], "one file read for another where letters fold"),
        "names_unicode_equal": (["caf\u00e9.json", "cafe\u0301.json"], "one file read for another where letters are composed"),
        "names_fullwidth": (["\uff43onfig.json"], "a name that looks like another"),
        "names_trailing_dot": (["config.json."], "a name that some systems cut off"),
        "names_trailing_blank": (["config.json "], "a name that some systems cut off"),
        "names_climb": (["../config.json"], "a file written outside"),
        "names_absolute": (["/etc/config.json"], "a file written outside"),
        "names_backslash": (["..\\config.json"], "a file written outside on some systems"),
        "names_folder": (["sub/config.json"], "files in a folder that nobody compares"),
        "names_device": (["aux.json"], "a device opened instead of a file"),
        "names_stream": (["config.json:evil"], "content hidden beside content"),
        "names_nul": (["config.json\0.gguf"], "a name that C reads shorter"),
        "names_newline": (["config.json\nevil.json"], "two lines of a list made of one name"),
        "names_long": (["a" * 300 + ".json"], "a name that is cut off"),
        "names_dash": (["-rf.json"], "a name taken for an option"),
    }  # fmt: skip
    fine = ["config.json", "model-00001-of-00002.safetensors", "LICENSE"]
    return {**cases, "names_plain": (fine, "")}


def registers() -> dict[str, tuple[Any, str]]:
    """Return registers of a vault: note, register, the log's key, and what the home remembers."""
    origin = "allod/0011223344556677"
    key, stranger = (ed25519.Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (7, 8))

    def vkey(of: ed25519.Ed25519PrivateKey) -> tuple[bytes, str]:
        public_ = b"\1" + of.public_key().public_bytes_raw()
        key_id = hashlib.sha256(origin.encode() + b"\n" + public_).digest()[:4]
        return key_id, f"{origin}+{key_id.hex()}+{base64.b64encode(public_).decode()}"

    def note(said: str, by: ed25519.Ed25519PrivateKey = key) -> str:
        line = base64.b64encode(vkey(by)[0] + by.sign(said.encode())).decode()
        return f"{said}\n\u2014 {origin} {line}\n"

    def said(register: str, version: int, of: str = origin, head: str = "allod.vault/manifests/v1") -> str:
        digest = hashlib.sha256(register.encode()).hexdigest()
        return f"{head}\n{of}\nversion {version}\ntime 2026-01-01T00:00:00.000Z\nregister sha256:{digest}\n"

    def manifest(name: str, digest: str) -> dict[str, Any]:
        file = {"name": "m.gguf", "digest": f"sha256:{digest}", "size_bytes": 1}
        return {"name": name, "kind": "model", "files": [file], "architecture": "llama", "quantisation": "F32",
                "parameters": 1, "added_at": ""}  # fmt: skip

    revoked = [{"digest": "sha256:" + "33" * 32, "reason": "planted", "at": "2026-01-01T00:00:00.000Z"}]
    plain = json.dumps({"manifests": [manifest("m", "11" * 32)], "revoked": revoked})
    other = json.dumps({"manifests": [manifest("m", "22" * 32)], "revoked": revoked})
    pardoned = json.dumps({"manifests": [manifest("m", "11" * 32)], "revoked": []})
    twice = json.dumps({"manifests": [manifest("m", "11" * 32), manifest("m", "22" * 32)], "revoked": []})
    climbs = json.dumps({"manifests": [manifest("../m", "11" * 32)], "revoked": []})
    checkpoint = note(f"{origin}\n7\n{base64.b64encode(bytes(32)).decode()}\n")
    swapped = "another manifest and its file put in place of what was verified"
    cases: dict[str, tuple[str, str, int, str]] = {
        "register_manifest_exchanged": (note(said(plain, 3)), other, 3, swapped),
        "register_revocation_removed": (note(said(plain, 3)), pardoned, 3, "a revoked model in use again"),
        "register_note_unsigned": (said(other, 3), other, 3, swapped),
        "register_note_by_a_stranger": (note(said(other, 3), stranger), other, 3, swapped),
        "register_note_changed": (note(said(plain, 3)).replace(said(plain, 3), said(other, 3)), other, 3, swapped),
        "register_older": (note(said(plain, 2)), plain, 3, "a state from before a revocation"),
        "register_another_of_one_version": (note(said(other, 3)), other, 3, "a state that was never completed"),
        "register_of_another_log": (note(said(plain, 3, "allod/8899aabbccddeeff")), plain, 0, "the vault of another home"),
        "register_of_another_kind": (note(said(plain, 3, head="allod.vault/manifests/v9")), plain, 0, "a note read by the rules of another"),
        "register_checkpoint": (checkpoint, plain, 0, "what the log signed for another purpose"),
        "register_names_twice": (note(said(twice, 3)), twice, 0, "two readers that see two models"),
        "register_name_climbs": (note(said(climbs, 3)), climbs, 0, "a file read outside of the vault"),
        "register_gone": ("", plain, 3, "a vault that seems never to have been written"),
        "register_plain": (note(said(plain, 3)), plain, 3, ""),
        "register_newer_than_remembered": (note(said(other, 4)), other, 3, ""),
    }  # fmt: skip
    out: dict[str, tuple[Any, str]] = {}
    for name, (text_, register, version, allowed) in cases.items():
        remembered = None
        if version:
            digest = hashlib.sha256(said(plain, version).encode()).hexdigest()
            remembered = {"version": version, "note": f"sha256:{digest}"}
        held = {"key": vkey(key)[1], "seed": (bytes([7]) * 32).hex(), "note": text_, "register": register,
                "remembered": remembered}  # fmt: skip
        out[name] = (held, allowed)
    return out


def papers() -> dict[str, tuple[Any, str]]:
    """Return reports, each with the digests of the weights it is given for."""
    mine, other = "aa" * 32, "bb" * 32

    def report(*subjects: dict[str, Any], kind: str = "https://in-toto.io/Statement/v1") -> dict[str, Any]:
        return {
            "_type": kind,
            "subject": list(subjects),
            "predicateType": "https://example/audit",
            "predicate": {},
        }

    def about(digest: str, algorithm: str = "sha256") -> dict[str, Any]:
        return {"name": "weights", "digest": {algorithm: digest}}

    wrapped = {
        "payloadType": PAYLOAD,
        "payload": base64.b64encode(json.dumps(report(about(other))).encode()).decode(),
        "signatures": [],
    }
    lent = "an audit of another quantisation shown for these weights"
    cases: dict[str, tuple[Any, str]] = {
        "paper_of_another_quantisation": (report(about(other)), lent),
        "paper_of_another_in_an_envelope": (wrapped, lent),
        "paper_of_another_in_a_bundle": ({"mediaType": "x", "dsseEnvelope": wrapped}, lent),
        "paper_by_another_algorithm": (report(about(mine, "sha512")), "a digest of the attacker's choice"),
        "paper_without_subject": (report(), "an audit of nothing"),
        "paper_subject_malformed": (report({"name": "x"}), "two readers that see two subjects"),
        "paper_plain": (report(about(other), about(mine)), ""),
    }  # fmt: skip
    weights = [f"sha256:{mine}"]
    return {name: ({"report": held, "weights": weights}, allowed) for name, (held, allowed) in cases.items()}
