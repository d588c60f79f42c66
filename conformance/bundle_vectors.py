"""Hostile (and a few good) bundles for whoever imports them: names, tars, forms, signatures, updates, proofs.

    python conformance/bundle_vectors.py      # writes vectors/bundle and its index again

Seeds are fixed: every run writes the same bytes. Most hostile bundles are signed by the trusted signer, so that a
signature alone saves nobody.
"""
# ruff: noqa: E501 (tables: one attack a line)

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bundle_parts import (
    BASE,
    BOTH,
    CHANNEL,
    CONTENT,
    CREATED_MS,
    DAY_MS,
    GOOD,
    KEYS,
    NUMBER,
    OTHER_HOME,
    Tuf,
    beyond,
    bundle,
    crowd,
    edited,
    entry,
    folder,
    header,
    key_id,
    pax,
    proof,
    public,
    root,
    rsa,
    seen,
    signed_by,
    tar_of,
    tarred,
    twice,
    whole,
    written,
)
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Snapshot, Timestamp
from vector_parts import ATTACKER, OTHER_LOG, Vector

from allod.receipts.canonical import canonical
from allod.vault.bundle import envelope, form, layout, logproof, metadata, tar

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent / "vectors" / "bundle"
RAW = GOOD["bundle.json"]
DIGEST = form.digest_of(RAW)
WEIGHTS = layout.blob(form.digest_of(CONTENT["model", "tiny"]["files/model.gguf"]))


def named(path: str, *more: str) -> dict[str, bytes]:
    """Return a signed bundle whose pack has files of these names."""
    return whole(
        content={
            **CONTENT,
            ("pack", "ward"): {
                **CONTENT["pack", "ward"],
                **{p: p.encode("utf-8", "replace") for p in (path, *more)},
            },
        }
    )


def paths() -> list[Vector]:
    """Return signed bundles with names that lead elsewhere."""

    def one(name: str, attack: str, allows: str, *names: str) -> Vector:
        return folder(f"bundle_{name}", named(*names), "form", attack, allows)

    over = "a file written outside the pack's folder"
    twin = "one of two files, by the file system's choice, under a signature over both"
    return [
        one("zip_slip", "a part at pack/../../../x", over, "pack/../../../etc/cron.d/x"),
        one("absolute_path", "a part at /etc", over, "/etc/cron.d/x"),
        one("backslash", "a part with backslashes", over + ", where a backslash parts folders", "pack\\..\\..\\x"),
        one("drive_letter", "a part with a colon", over + ", or a second stream of a file", "pack/C:x"),
        one("nul_in_name", "a part with a NUL", "a name cut off by code in C: another file than was checked", "pack/a.toml\0.txt"),
        one("dot_segment", "a part with . in its path", "two paths for one file", "pack/./a.toml"),
        one("empty_segment", "a part with an empty segment", "two paths for one file", "pack//a.toml"),
        one("device_name", "a part called aux.toml", "a write to a device instead of a file", "pack/aux.toml"),
        one("trailing_dot", "a part that ends in a dot", twin, "pack/a.toml."),
        one("trailing_space", "a part that ends in a space", twin, "pack/a.toml "),
        one("wildcard", "a part with an asterisk", "a clean-up that removes other files", "pack/*.toml"),
        one("case_twins", "two parts that differ in case", twin, "pack/A.toml", "pack/a.toml"),
        one("unicode_decomposed", "a part that is not in normal form C", twin, "pack/a\u0308.toml"),
        one("unicode_twins", "two parts that are one in compatibility form", twin, "pack/fi.toml", "pack/\ufb01.toml"),
        one("right_to_left", "a name with a direction override", "a name that reads as another one", "pack/a\u202elmot.toml"),
        one("zero_width", "a name with an invisible character", "two names that look the same", "pack/a\u200b.toml"),
        one("file_and_folder", "a file that is also a folder", "a file that replaces a folder of others", "pack/a", "pack/a/b.toml"),
        one("deep_path", "a path of forty levels", "a path that other tools cannot remove", "pack/" + "d/" * 40 + "x"),
        one("long_name", "a name of 300 bytes", "a write that fails half way through the import", "pack/" + "n" * 300),
        folder("bundle_part_elsewhere", edited(lambda v: v["items"][0]["parts"].append({**v["items"][0]["parts"][-1], "path": "run/me"})), "form", "a model with a part outside its known places", "files that no rule of models looks at"),
    ]  # fmt: skip


def folders() -> list[Vector]:
    """Return folders whose files are not what was signed."""
    extra = "blobs/sha256/" + "a" * 64
    changed = bytearray(GOOD[WEIGHTS])
    changed[10] ^= 1

    def without(path: str) -> dict[str, bytes]:
        return {p: d for p, d in GOOD.items() if p != path}

    return [
        folder("bundle_good", GOOD, "", "nothing", ""),
        folder("bundle_extra_blob", GOOD | {extra: b"x"}, "file set", "a blob that nobody signed", "a payload carried in under a good signature"),
        folder("bundle_missing_blob", without(WEIGHTS), "file set", "a blob is missing", "an import that stops half way, or serves without weights"),
        folder("bundle_extra_file", GOOD | {"install.sh": b"#!"}, "names", "a file that bundles do not have", "a program beside the bundle that somebody runs"),
        folder("bundle_hidden_file", GOOD | {".git/hooks/post-checkout": b"#!"}, "names", "a hidden folder", "ignored paths: the hole of formats that skip them"),
        folder("bundle_extra_tuf", GOOD | {"tuf/mirrors.json": b"{}"}, "names", "metadata of another role", "rules that only some readers follow"),
        folder("bundle_symlink", without(WEIGHTS), "names", "a blob that is a link to a file of the system", "secrets of this machine imported as weights", links={WEIGHTS: "/etc/passwd"}),
        folder("bundle_symlink_folder", {p: d for p, d in GOOD.items() if not p.startswith("blobs/")}, "names", "blobs/ is a link", "content exchanged after it was checked", links={"blobs": "/srv"}),
        folder("bundle_byte_flipped", GOOD | {WEIGHTS: bytes(changed)}, "content", "one bit of the weights", "other weights than were signed"),
        folder("bundle_blob_longer", GOOD | {WEIGHTS: GOOD[WEIGHTS] + b"\0"}, "file set", "a blob one byte longer", "a payload behind the weights"),
        folder("bundle_size_lie", edited(lambda v: _each(v, "files/model.gguf", size_bytes=8)), "file set", "a signed size smaller than the blob", "a disk filled beyond what was announced"),
        folder("bundle_size_huge", edited(lambda v: _each(v, "files/model.gguf", size_bytes=2**52)), "file set", "a signed size of four petabytes", "an import that allocates what it was told"),
        folder("bundle_two_sizes", edited(_two_sizes), "form", "one digest with two sizes", "two readers that reserve different space"),
        folder("bundle_manifest_changed", GOOD | {layout.blob(bundle().items[0].digest): b"{}"}, "file set", "an OCI manifest with other bytes", "OCI tools that see another model than was signed"),
        folder("bundle_manifest_other", edited(lambda v: v["items"][0].update(digest="sha256:" + "b" * 64)), "file set", "an item with the digest of another manifest", "as above, under a signature"),
        folder("bundle_index_changed", GOOD | {"index.json": b"{}"}, "file set", "another OCI index", "as above"),
        folder("bundle_index_padded", GOOD | {"index.json": GOOD["index.json"][:-1] + b"\n}"}, "file set", "an index with a space in it", "as above"),
        folder("bundle_layout_version", GOOD | {"oci-layout": b'{"imageLayoutVersion":"9.0.0"}'}, "file set", "another layout version", "readers that interpret the rest differently"),
    ]  # fmt: skip


def _each(value: Any, path: str, **changes: Any) -> None:
    for item in value["items"]:
        for one in item["parts"]:
            if one["path"] == path:
                one.update(changes)


def _two_sizes(value: Any) -> None:
    first = value["items"][0]["parts"][0]
    _each(value, "pack/pack.toml", digest=first["digest"], size_bytes=first["size_bytes"] + 1)


def forms() -> list[Vector]:
    """Return signed bundles whose ``bundle.json`` is not canonical, bounded, or of one meaning."""

    def edit(name: str, change: Callable[[Any], Any], attack: str, allows: str) -> Vector:
        return folder(f"bundle_{name}", edited(change), "form", attack, allows)

    def raw(name: str, data: bytes, attack: str, allows: str) -> Vector:
        return folder(f"bundle_{name}", GOOD | whole(data), "form", attack, allows)

    downgrade = "content whose digest can be forged"
    return [
        raw("not_canonical", RAW.replace(b":", b": ", 1), "a space", "two bytes forms of one bundle, with two digests"),
        raw("duplicate_key", RAW.replace(b'"number":7', b'"number":7,"number":8', 1), "the number twice", "two readers that see two numbers"),
        raw("float_number", RAW.replace(b'"number":7', b'"number":7.0', 1), "a number with a point", "numbers that compare differently elsewhere"),
        raw("number_2e53", RAW.replace(b'"number":7', b'"number":9007199254740993', 1), "a number beyond 2^53", "a number that rounds to another one elsewhere"),
        raw("deep_nesting", b"[" * 5_000 + b"]" * 5_000, "five thousand brackets", "a crash of whoever parses by recursion"),
        raw("not_json", b"\xff\xfe", "bytes that are no text", "a reader that guesses"),
        raw("escaped_key", RAW.replace(b'"channel"', b'"chann\\u0065l"', 1), "a key written with an escape", "as not_canonical"),
        edit("unknown_field", lambda v: v.update(run="x.sh"), "a field nobody knows", "meaning that only some readers see"),
        edit("format_other", lambda v: v.update(format="allod-bundle-2"), "another format", "content read by the wrong rules"),
        edit("number_zero", lambda v: v.update(number=0), "number 0", "a bundle before the first"),
        edit("number_negative", lambda v: v.update(number=-1), "a negative number", "a number below every known one"),
        edit("channel_path", lambda v: v.update(channel="../stable"), "a channel that is a path", "state written elsewhere"),
        edit("time_local", lambda v: v.update(created_at="2026-10-26T07:33:20.000+14:00"), "a time with an offset", "a clock check that is off by a day"),
        edit("item_device_name", lambda v: v["items"][0].update(name="con"), "an item called con", "a folder that some systems take for a device"),
        edit("item_path", lambda v: v["items"][0].update(name="../tiny"), "an item whose name is a path", "an item written elsewhere"),
        edit("version_path", lambda v: v["items"][0].update(version="1/../../x"), "a version that is a path", "an item written elsewhere"),
        edit("kind_unknown", lambda v: v["items"][0].update(kind="plugin"), "an item of unknown kind", "content that no rule covers"),
        edit("two_items_one_name", lambda v: v["items"].insert(1, dict(v["items"][0])), "two items of one kind and name", "one checked, the other used"),
        edit("items_unsorted", lambda v: v["items"].reverse(), "items out of order", "two bundles of one content"),
        edit("no_items", lambda v: v.update(items=[]), "nothing inside", "a number used up: true bundles refused as old"),
        edit("model_without_manifest", lambda v: v["items"][0].update(parts=[p for p in v["items"][0]["parts"] if p["path"] != "manifest.json"]), "a model without its manifest", "weights that come without licence, maker and lineage"),
        edit("wrong_media_type", lambda v: _each(v, "pack/pack.toml", media_type="application/x-sh"), "a pack's file as a script", "content handed to another reader"),
        edit("weights_as_text", lambda v: _each(v, "files/model.gguf", media_type="application/vnd.cncf.model.doc.v1.raw"), "weights as a document", "weights that nobody examines"),
        edit("sha1_digest", lambda v: _each(v, "files/model.gguf", digest="sha1:" + "0" * 40), "a digest by SHA-1", downgrade),
        edit("md5_digest", lambda v: _each(v, "files/model.gguf", digest="md5:" + "0" * 32), "a digest by MD5", downgrade),
        edit("sha512_digest", lambda v: _each(v, "files/model.gguf", digest="sha512:" + "0" * 128), "a digest by another algorithm", "a blob that one reader checks and another cannot"),
        edit("digest_without_algorithm", lambda v: _each(v, "files/model.gguf", digest="0" * 64), "a bare digest", "an algorithm by the reader's choice"),
        edit("digest_upper_case", lambda v: _each(v, "files/model.gguf", digest="sha256:" + "A" * 64), "a digest in capitals", "a blob that is not found, or found twice"),
        edit("paper_renamed", lambda v: v["items"][0]["parts"].append({**v["items"][0]["parts"][0], "path": "papers/" + "c" * 64, "media_type": "application/vnd.cncf.model.doc.v1.raw"}), "a paper under another digest than its own", "an audit report of another model"),
        edit("audience_not_origins", lambda v: v.update(audience=["two words"]), "an audience that is no origin", "a comparison that is never true, or always"),
        edit("min_importer_text", lambda v: v.update(min_importer="latest"), "a version that is no number", "a comparison as text"),
    ]  # fmt: skip


def envelopes() -> list[Vector]:
    """Return envelopes that nobody trusted has signed."""
    good = json.loads(GOOD["bundle.dsse.json"])
    stranger = envelope.sign(RAW, [KEYS["stranger"]])
    many = envelope.sign(RAW, [KEYS["signer"]])

    def sealed(**changes: Any) -> dict[str, bytes]:
        return GOOD | {"bundle.dsse.json": canonical({**good, **changes})}

    sigs: list[dict[str, str]] = good["signatures"]
    many_more = sorted(
        (*sigs, *({"keyid": f"{n:064x}", "sig": sigs[0]["sig"]} for n in range(16))), key=lambda s: s["keyid"]
    )
    forged = [{"keyid": key_id("signer"), "sig": json.loads(stranger)["signatures"][0]["sig"]}]
    stray = sigs[0]["sig"][:-3] + chr(ord(sigs[0]["sig"][-3]) + 1) + "=="
    other = written(bundle(number=8))
    two = whole(signers=("second", "signer", "stranger"))
    return [
        folder("bundle_unsigned", {p: d for p, d in GOOD.items() if p != "bundle.dsse.json"}, "envelope", "no signature", "anything at all"),
        folder("bundle_no_signatures", sealed(signatures=[]), "envelope", "an empty list of signatures", "anything at all"),
        folder("bundle_unknown_signer", GOOD | {"bundle.dsse.json": stranger}, "envelope", "signed by a stranger", "anything at all"),
        folder("bundle_threshold_not_met", GOOD | {"bundle.dsse.json": many}, "envelope", "one signature where two are needed", "one stolen key that suffices", trust={"signers": BOTH, "threshold": 2}),
        folder("bundle_duplicate_keyid", sealed(signatures=[*sigs, *sigs]), "envelope", "one signature twice", "a threshold met by one key", trust={"signers": BOTH, "threshold": 2}),
        folder("bundle_many_signatures", sealed(signatures=many_more), "envelope", "seventeen signatures", "work without bound"),
        folder("bundle_keyid_forged", sealed(signatures=forged), "envelope", "a stranger's signature under our key id", "anything, where key ids are believed"),
        folder("bundle_signature_stray_bits", sealed(signatures=[{**sigs[0], "sig": stray}]), "envelope", "base 64 with stray bits", "two envelopes of one signature"),
        folder("bundle_signature_short", sealed(signatures=[{**sigs[0], "sig": "AAAA"}]), "envelope", "a signature of three bytes", "a comparison cut short"),
        folder("bundle_payload_other", GOOD | {"bundle.dsse.json": envelope.sign(other, [KEYS["signer"]])}, "envelope", "a true signature over another bundle", "any bundle with a signature of another one"),
        folder("bundle_payload_type_other", GOOD | {"bundle.dsse.json": envelope.sign(RAW, [KEYS["signer"]], "application/vnd.in-toto+json")}, "envelope", "signed as something else", "a text signed for another purpose taken for a bundle"),
        folder("bundle_payload_type_renamed", sealed(payloadType="application/json"), "envelope", "the payload's type changed", "as above"),
        folder("bundle_envelope_unknown_field", sealed(extra=1), "envelope", "a field nobody knows", "meaning that only some readers see"),
        folder("bundle_two_signers", two, "", "nothing: two trusted signers and a stranger", "", trust={"signers": BOTH, "threshold": 2}),
        folder("bundle_keyring_wrong_id", GOOD, "envelope", "a keyring that gives a key the id of another", "one key trusted under two names", trust={"signers": {key_id("second"): {"public": public("signer").hex(), "name": "x"}}}),
    ]  # fmt: skip


def updates() -> list[Vector]:
    """Return update metadata: rollback, freeze, mix and match, roots."""
    after = seen(timestamp=7, snapshot=7, targets=7)
    old, new = Tuf(version=6).files(RAW), Tuf(version=8).files(RAW)
    second = form.digest_of(root(2, "root", "root-next", root="root-next"))

    def with_tuf(tuf: Tuf) -> dict[str, bytes]:
        return whole(tuf=tuf)

    def one(
        name: str,
        files: dict[str, bytes],
        attack: str,
        allows: str,
        by: str = "update metadata",
        **given: Any,
    ) -> Vector:
        return folder(f"bundle_{name}", files, by, attack, allows, **given)

    rollback = "an older bundle, with holes that were closed since"
    freeze = "newer bundles held back unnoticed"
    return [
        one("old_number", GOOD, "a number below the last", rollback, "number", known=seen(8)),
        one("same_number_other_digest", GOOD, "another bundle of the last number", "two homes with two bundles of one name", "number", known=seen(NUMBER)),
        one("imported_again", GOOD, "nothing: exactly the last bundle", "", "", known=seen(NUMBER, DIGEST, timestamp=7, snapshot=7, targets=7)),
        one("timestamp_rollback", GOOD, "a timestamp older than the last", rollback, known=seen(timestamp=8)),
        one("snapshot_rollback", GOOD, "a snapshot older than the last", rollback, known=seen(snapshot=8)),
        one("targets_rollback", GOOD, "targets older than the last", rollback, known=seen(targets=8)),
        one("root_rollback", GOOD, "a root older than the last", "a key that was taken back", known=after | {"root_version": 2, "root": second}),
        one("frozen", GOOD, "the timestamp has expired", freeze, "freshness", now_ms=CREATED_MS + 91 * DAY_MS),
        one("frozen_but_allowed", GOOD, "nothing: expired, and this home only wants to be told", "", "", now_ms=CREATED_MS + 91 * DAY_MS, trust={"refuse_stale": False}),
        one("frozen_within_grace", GOOD, "nothing: expired yesterday, seven days of grace", "", "", now_ms=CREATED_MS + 91 * DAY_MS, trust={"grace_ms": 7 * DAY_MS}),
        one("clock_before_creation", GOOD, "a clock that reads earlier than the bundle was made", freeze + " by who can set the clock", "clock", now_ms=CREATED_MS - DAY_MS),
        one("clock_before_last_import", GOOD, "a clock set back to before the last import, over expired metadata", freeze + " by who can set the clock", "clock", known=seen() | {"seen_ms": CREATED_MS + 100 * DAY_MS}),
        one("mixed_snapshot", GOOD | {"tuf/snapshot.json": old["tuf/snapshot.json"]}, "a snapshot of an older state", "a combination that was never published"),
        one("mixed_targets", GOOD | {"tuf/targets.json": new["tuf/targets.json"]}, "targets of a newer state", "a combination that was never published"),
        one("mixed_timestamp", GOOD | {"tuf/timestamp.json": new["tuf/timestamp.json"]}, "a timestamp of a newer state", "a combination that was never published"),
        one("withdrawn", with_tuf(Tuf(path="stable/8/bundle.json")), "metadata that does not vouch for this bundle", "a bundle that its publisher took back"),
        one("target_of_another_channel", with_tuf(Tuf(custom={"channel": "test", "number": NUMBER})), "vouched for on another channel", "a test bundle in production"),
        one("target_of_another_number", with_tuf(Tuf(custom={"channel": CHANNEL, "number": 1})), "vouched for under another number", rollback),
        one("target_of_other_bytes", GOOD | Tuf().files(written(bundle(number=8))), "vouched for are other bytes", "any bundle with metadata of another one"),
        one("tuf_sha512_only", with_tuf(Tuf(target_hashes=lambda _: {"sha512": "0" * 128})), "a hash of another algorithm only", "a hash that nobody checks"),
        one("tuf_sha1", with_tuf(Tuf(target_hashes=lambda raw: {"sha256": form.digest_of(raw)[7:], "sha1": "0" * 40})), "SHA-1 beside SHA-256", "a check by the weaker one"),
        one("tuf_signed_by_stranger", with_tuf(Tuf(signers={"timestamp": "attacker"})), "a timestamp signed by a stranger", freeze),
        one("tuf_role_swapped", with_tuf(Tuf(signers={"targets": "timestamp"})), "targets signed by the timestamp's key", "the key that is online signing for what is kept offline"),
        one("tuf_duplicate_key", _tuf_raw("timestamp", lambda raw: raw.replace(b'"version": 7', b'"version": 7, "version": 7', 1).replace(b'"version":7', b'"version":7,"version":7', 1)), "a key twice in the timestamp", "two readers that see two versions"),
        one("tuf_many_signatures", _tuf_raw("timestamp", crowd), "a hundred signatures", "work without bound"),
        one("tuf_deep", GOOD | {"tuf/timestamp.json": b"[" * 5_000 + b"]" * 5_000}, "five thousand brackets", "a crash of whoever parses by recursion"),
        one("tuf_version_2e63", _tuf_raw("timestamp", lambda raw: raw.replace(b'"version":7', b'"version":9223372036854775808', 1).replace(b'"version": 7', b'"version": 9223372036854775808', 1)), "a version beyond every counter", "a number that nothing newer can follow"),
        one("tuf_missing_timestamp", {p: d for p, d in GOOD.items() if p != "tuf/timestamp.json"}, "no timestamp", freeze),
        one("tuf_delegation", _delegating(), "targets that delegate", "signers that no home was told of"),
    ]  # fmt: skip


def roots() -> list[Vector]:
    """Return chains of roots: whom a home follows, and whom not."""
    moved = [root(), root(2, "root", "root-next", root="root-next")]
    fresh = [root(), root(2, timestamp="timestamp-next")]
    digests = [form.digest_of(one) for one in moved]

    def one(
        name: str,
        files: dict[str, bytes],
        attack: str,
        allows: str,
        by: str = "update metadata",
        **given: Any,
    ) -> Vector:
        return folder(f"bundle_{name}", files, by, attack, allows, **given)

    return [
        one("root_foreign", whole(tuf=Tuf(roots=[root(1, root="attacker")])), "another first root", "everything: a publisher of one's own"),
        one("root_none_trusted", GOOD, "a home that was given another root", "trust on first use", trust={"root": "sha256:" + "0" * 64}),
        one("root_gap", GOOD | {"tuf/3.root.json": moved[1]}, "a root is missing in between", "a rotation that nobody can follow"),
        one("root_misnumbered", whole(tuf=Tuf(roots=[root(), root(3)])), "2.root.json says it is version 3", "a rotation that skips one"),
        one("root_not_signed_by_the_last", whole(tuf=Tuf(roots=[root(), root(2, "root-next", root="root-next")])), "a second root signed by its own key only", "everything: anybody's root"),
        one("root_not_signed_by_itself", whole(tuf=Tuf(roots=[root(), root(2, "root", root="root-next")])), "a second root not signed by its own key", "a root whose owner never had the key"),
        one("root_one_key_twice", whole(tuf=Tuf(roots=[root(1, change=twice)])), "one public key under two key ids", "a threshold of two met by one key", trust={"root": form.digest_of(root(1, change=twice))}),
        one("root_scheme_rsa", whole(tuf=Tuf(roots=[root(1, change=rsa)])), "a key of another scheme", "a weaker signature", trust={"root": form.digest_of(root(1, change=rsa))}),
        one("root_threshold_impossible", whole(tuf=Tuf(roots=[root(1, change=beyond)])), "a threshold above the number of keys", "a role nobody can ever replace", trust={"root": form.digest_of(root(1, change=beyond))}),
        one("root_rotated", whole(tuf=Tuf(roots=moved)), "nothing: the root's key was rotated", "", ""),
        one("root_rotated_and_known", whole(tuf=Tuf(roots=moved)), "nothing: as above, seen before", "", "", known=seen() | {"root_version": 2, "root": digests[1]}),
        one("root_forked", whole(tuf=Tuf(roots=moved)), "another second root than was seen", "a publisher's history rewritten", known=seen() | {"root_version": 2, "root": "sha256:" + "d" * 64}),
        one("timestamp_key_rotated", whole(tuf=Tuf(roots=fresh, signers={"timestamp": "timestamp-next"})), "nothing: the timestamp's key was rotated", "", ""),
        one("timestamp_key_retired", whole(tuf=Tuf(roots=fresh)), "a timestamp signed by the key that was rotated away", "a stolen key that goes on signing"),
    ]  # fmt: skip


def _tuf_raw(name: str, change: Callable[[bytes], bytes]) -> dict[str, bytes]:
    return GOOD | {f"tuf/{name}.json": change(GOOD[f"tuf/{name}.json"])}


def _delegating() -> dict[str, bytes]:
    role: Any = Metadata.from_bytes(GOOD["tuf/targets.json"])
    role.signed.delegations = Delegations(
        {}, {"x": DelegatedRole("x", [key_id("attacker")], 1, False, ["*"])}
    )
    out = {"targets": signed_by(role.signed, "targets")}

    def meta(name: str) -> MetaFile:
        return MetaFile(7, len(out[name]), {"sha256": form.digest_of(out[name])[7:]})

    out["snapshot"] = signed_by(
        Snapshot(7, None, role.signed.expires, {"targets.json": meta("targets")}), "snapshot"
    )
    out["timestamp"] = signed_by(Timestamp(7, None, role.signed.expires, meta("snapshot")), "timestamp")
    return GOOD | {f"tuf/{name}.json": raw for name, raw in out.items()}


def proofs() -> list[Vector]:
    """Return bundles that no log shows, or that are for others."""
    bare = {p: d for p, d in GOOD.items() if not p.startswith("proof/")}
    text = GOOD[logproof.INCLUSION].decode()
    other = proof(written(bundle(number=8)))
    fork = whole(log=ATTACKER)
    later = whole(bundle(min_importer="99.0.0"))
    away = whole(bundle(audience=(OTHER_HOME,)))

    def one(
        name: str, files: dict[str, bytes], attack: str, allows: str, by: str = "log proof", **given: Any
    ) -> Vector:
        return folder(f"bundle_{name}", files, by, attack, allows, **given)

    alone = "a bundle made for one victim, which nobody else ever sees"
    return [
        one("no_log_proof", bare, "no proof", alone),
        one("no_log_proof_allowed", bare, "nothing: this home does not require one", "", "", trust={"require_log_proof": False}),
        one("leaf_of_another_bundle", bare | other, "the proof of another bundle", alone),
        one("leaf_changed", GOOD | {logproof.LEAF: GOOD[logproof.LEAF].replace(b'"tenant":"t"', b'"tenant":"u"')}, "a leaf with another byte", alone),
        one("leaf_of_another_channel", bare | proof(RAW, channel="test"), "a leaf that names another channel", "a test bundle in production"),
        one("log_of_attacker", fork, "a checkpoint signed by another key under the same origin", alone),
        one("log_of_another_origin", whole(bundle(source=OTHER_LOG.key.name), log=OTHER_LOG), "the proof of a log that nobody trusts", alone),
        one("proof_extra_data", GOOD | {logproof.INCLUSION: text.replace("\nindex", "\nextra AAAA\nindex", 1).encode()}, "extra data in the proof", "something believed that nothing authenticates"),
        one("checkpoint_other", GOOD | {logproof.CHECKPOINT: other[logproof.CHECKPOINT]}, "another checkpoint beside the proof", "a person shown another state of the log than was verified"),
        one("proof_index_moved", GOOD | {logproof.INCLUSION: text.replace("index 2", "index 3").encode()}, "another place in the log", "two places for one leaf"),
        one("proof_incomplete", {p: d for p, d in GOOD.items() if p != logproof.CHECKPOINT}, "no checkpoint", alone),
        one("for_another_home", away, "a bundle for another tenant", "a licence, price or pack that was not meant for here", "audience"),
        one("channel_not_taken", GOOD, "a channel that this home does not take", "a test bundle in production", "audience", trust={"channels": ["production"]}),
        one("min_importer", later, "a bundle for a newer Allod", "content read by rules that this version does not know", "importer"),
        one("revoked", GOOD, "a bundle whose digest is revoked", "what its publisher took back", "envelope", known=BASE["known"] | {"revoked": [DIGEST]}),
    ]  # fmt: skip


def tars() -> list[Vector]:
    """Return tars that are no bundle, or read differently by two readers."""
    good = tar_of(GOOD)
    cut = dict(list(GOOD.items())[:-1])
    name, data = list(GOOD.items())[-1]
    big = pax(size=str(2**40)) + header(name, 0) + data + tar.padding(len(data))

    def one(what: str, made: bytes, attack: str, allows: str, by: str = "names") -> Vector:
        return tarred(f"bundle_tar_{what}", made, by, attack, allows)

    def before(made: bytes) -> bytes:
        return tar_of(GOOD, made)

    over = "a file written outside the folder"
    link = "content read from, or written to, somewhere else"
    linked: dict[str, tuple[int, bytes]] = {"link": (157, b"/etc/passwd")}
    return [
        one("good", good, "nothing", "", ""),
        one("dot_slash", tar_of({"./" + p: d for p, d in GOOD.items()}), "nothing: names that begin with ./", "", ""),
        one("zip_slip", before(entry("../../etc/cron.d/x", b"x")), "a name with ..", over),
        one("absolute", before(entry("/etc/cron.d/x", b"x")), "an absolute name", over),
        one("pax_path", before(pax(path="../../x") + header("index.json")), "a good name with another in a pax record", over),
        one("prefix_climbs", before(header("x", 0, prefix=(345, b"../.."))), "a prefix with ..", over),
        one("symlink", before(header("blobs", 0, b"2", **linked)), "a symbolic link", link),
        one("hardlink", before(header(WEIGHTS, 0, b"1", **linked)), "a hard link", link),
        one("link_in_a_file", before(header("index.json", 0, b"0", **linked)), "a regular file that names a link", "a reader that goes by the field, not by the type"),
        one("device", before(header("blobs/sha256/" + "a" * 64, 0, b"3")), "a character device", "a read that never ends"),
        one("fifo", before(header("index.json", 0, b"6")), "a pipe", "a read that never begins"),
        one("sparse", before(header(WEIGHTS, 0, b"S")), "a GNU sparse file", "petabytes out of a kilobyte"),
        one("pax_sparse", before(pax(**{"GNU.sparse.major": "1"}) + header(WEIGHTS)), "a sparse file by pax records", "petabytes out of a kilobyte"),
        one("long_name", before(header("././@LongLink", 0, b"L")), "a GNU long name", "a name that two readers see differently"),
        one("global_header", before(header("pax_global", 0, b"g")), "a global pax header", "names and sizes of all files changed at once"),
        one("contiguous", before(header("index.json", 0, b"7")), "a type that readers treat differently", "a file that only some readers see"),
        one("duplicate_name", before(entry("index.json", b"{}")), "a name twice", "one checked, the other used"),
        one("dot_slash_twin", before(entry("./index.json", b"{}")), "a name twice, once with ./", "one checked, the other used"),
        one("folder_twin", before(header("tuf/", 0, b"5") * 2), "a folder twice", "rights and owners that change in between"),
        one("folder_unknown", before(header("scripts/", 0, b"5")), "a folder that bundles do not have", "a place for files beside the bundle"),
        one("checksum", before(header("index.json")[:148] + b"000000\0 " + header("index.json")[156:]), "a false checksum", "a damaged header believed"),
        one("gnu_magic", before(header("index.json", 0, b"0", magic=(257, b"ustar  \0"))), "the header of another format", "fields at other places"),
        one("name_behind_nul", before(header("index.json", 0, b"0", hidden=(20, b"../x"))), "bytes behind the NUL of a name", "two readers that see two names"),
        one("size_base_256", before(header("index.json", 0, b"0", length=(124, b"\x80" + b"\xff" * 11))), "a size in another notation", "a negative or wrapped size"),
        one("size_not_octal", before(header("index.json", 0, b"0", length=(124, b"00000000009\0"))), "a size that is no octal number", "two readers that see two sizes"),
        one("bomb", tar_of(cut, end=big + tar.END), "a file that claims a terabyte", "a disk filled by a kilobyte"),
        one("size_twice", tar_of(cut, end=pax(size="1") + entry(name, data) + tar.END), "a pax size against the header's", "the rest of the tar read at another place"),
        one("pax_twice", before(pax(size="0") * 2 + header("index.json")), "two pax headers for one file", "the first or the last, by the reader's choice"),
        one("pax_unknown", before(pax(**{"SCHILY.xattr.user.x": "1"}) + header("index.json")), "an extended attribute", "capabilities given to a file"),
        one("pax_size_text", before(pax(size="1e9") + header("index.json")), "a size that is no number", "a size by the reader's choice"),
        one("pax_dangling", tar_of(GOOD, end=pax(size="1") + tar.END), "a pax header that nothing follows", "a header that joins what is appended"),
        one("bytes_behind", tar_of(GOOD, end=tar.END + entry("index.json", b"{}") + tar.END), "files behind the end", "files that only some readers see"),
        one("bytes_in_padding", good.replace(GOOD["oci-layout"] + b"\0", GOOD["oci-layout"] + b"!", 1), "bytes that fill a block", "a hiding place"),
        one("cut_off", good[: -len(tar.END)], "the end is missing", "a carrier that stops early taken for the whole"),
        one("truncated", good[: len(good) // 2 + 100], "half of it", "as above"),
        one("compressed", b"\x1f\x8b\x08" + good, "compressed", "a decompression bomb"),
        one("folder_with_content", before(header("tuf/", 512, b"5") + bytes(512)), "a folder with bytes", "a hiding place"),
    ]  # fmt: skip


def tar_contents() -> list[Vector]:
    """Return tars that are well formed and hold something else than was signed, or too much."""
    good = tar_of(GOOD)
    raw = json.loads(RAW)
    raw["notes"] = "n" * (form.MAX_BUNDLE_BYTES + 1)

    def one(what: str, made: bytes, attack: str, allows: str, by: str) -> Vector:
        return tarred(f"bundle_tar_{what}", made, by, attack, allows)

    return [
        one("missing_blob", tar_of({p: d for p, d in GOOD.items() if p != WEIGHTS}), "a blob is missing", "an import that stops half way", "file set"),
        one("shorter_blob", tar_of(GOOD | {WEIGHTS: GOOD[WEIGHTS][:-1]}), "a blob shorter than signed", "a size that lies", "file set"),
        one("byte_flipped", good.replace(b"GGUF\0", b"GGUF\1", 1), "one bit of the weights", "other weights than were signed", "content"),
        one("huge_json", tar_of(GOOD | {"bundle.json": canonical(raw)}), "a bundle.json of more than 8 MiB", "memory filled before a signature is looked at", "form"),
        one("huge_tuf", tar_of(GOOD | {"tuf/targets.json": bytes(metadata.MAX_BYTES + 1)}), "metadata of more than 4 MiB", "memory filled before a signature is looked at", "update metadata"),
    ]  # fmt: skip


def all_vectors() -> list[Vector]:
    """Return every vector of bundles."""
    return [
        *paths(),
        *folders(),
        *forms(),
        *envelopes(),
        *updates(),
        *roots(),
        *proofs(),
        *tars(),
        *tar_contents(),
    ]


def main() -> None:
    """Write everything again."""
    vectors = all_vectors()
    HERE.mkdir(parents=True, exist_ok=True)
    for old in HERE.glob("*.json"):
        old.unlink()
    for vector in vectors:
        path = HERE / f"{vector.name}.json"
        assert not path.exists(), vector.name
        path.write_text(json.dumps(vector.written(), indent=1, ensure_ascii=False) + "\n")
    good = {path: base64.b64encode(data).decode() for path, data in sorted(GOOD.items())}
    (HERE / "base.json").write_text(json.dumps(BASE | {"files": good}, indent=1) + "\n")
    head = "| vector | kind | must be | what is wrong with it | what it would have allowed |\n|---|---|---|---|---|\n"
    rows = sorted(vectors, key=lambda v: (v.kind, v.name))
    lines = [
        f"| `{v.name}` | {v.kind} | {'holds' if v.ok else 'refused by ' + v.given['refused_by']} | {v.attack} | {v.allows} |"
        for v in rows
    ]  # fmt: skip
    (HERE / "INDEX.md").write_text(f"# bundle\n\n{head}" + "\n".join(lines) + "\n")
    print(len(vectors), "vectors of bundles")


if __name__ == "__main__":
    main()
