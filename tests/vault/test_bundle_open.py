"""Opening and copying: what lies in the file afterwards is what was signed; others read the same."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import bundle_world as bw
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from allod.domain.errors import Integrity, Invalid
from allod.vault.bundle import form, names
from allod.vault.bundle.envelope import PAYLOAD_TYPE
from allod.vault.bundle.publish import Publisher
from allod.vault.bundle.tar import open_tar
from allod.vault.bundle.verify import Opened


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundle")


@pytest.fixture(scope="module")
def ours(place: Path) -> Publisher:
    ours = bw.publisher(place)
    contents = bw.content(place)
    bw.made(place / "b", contents, ours)
    bw.made(place / "b.tar", contents, ours)
    return ours


@pytest.fixture(params=["b", "b.tar"])
def bundle(request: pytest.FixtureRequest, place: Path, ours: Publisher) -> Iterator[Opened]:
    with bw.opened(place / request.param, ours.keyring(proof=False)) as opened:
        yield opened


def weights(bundle: Opened) -> form.Part:
    return next(part for part in bundle.bundle.parts if part.path.startswith("files/"))


def test_a_copy_goes_on_from_what_is_there_and_reads_that_again(bundle: Opened, tmp_path: Path) -> None:
    part = weights(bundle)
    whole = bundle.reader(part).read()
    for begun in (b"", whole[:1], whole[:100], whole, whole + b"more"):
        told: list[int] = []
        with (tmp_path / "to").open("w+b") as to:
            to.write(begun)
            to.flush()
            bundle.copy(part, to.fileno(), told.append, offset=min(len(begun), part.size_bytes))
        assert (tmp_path / "to").read_bytes() == whole
        assert sum(told) == part.size_bytes
    bundle.check(part)


def test_a_copy_over_other_bytes_is_found(bundle: Opened, tmp_path: Path) -> None:
    part = weights(bundle)
    with (tmp_path / "to").open("w+b") as to:
        to.write(b"x" * 50)
        to.flush()
        with pytest.raises(Integrity, match="not what was signed"):
            bundle.copy(part, to.fileno(), offset=50)


def test_a_blob_exchanged_after_it_was_opened_is_found(place: Path, ours: Publisher, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(place / "b", tmp_path / "b")
    with bw.opened(tmp_path / "b", ours.keyring(proof=False)) as bundle:
        part = weights(bundle)
        blob = tmp_path / "b" / "blobs" / "sha256" / part.digest[7:]
        raw = bytearray(blob.read_bytes())
        raw[-1] ^= 1
        blob.write_bytes(raw)
        with pytest.raises(Integrity, match="not what was signed"):
            bundle.check(part)
        with pytest.raises(Integrity, match="not what was signed"):
            bundle.read(part, 1 << 24)
        blob.unlink()
        blob.symlink_to("/etc/passwd")
        with pytest.raises(Integrity, match="cannot be opened"):
            bundle.check(part)
        (tmp_path / "b" / "blobs").rename(tmp_path / "elsewhere")
        (tmp_path / "b" / "blobs").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Integrity, match="cannot be opened"):
            bundle.reader(part)


def test_what_is_no_bundle_is_named(tmp_path: Path, ours: Publisher) -> None:
    ring = ours.keyring(proof=False)
    with pytest.raises(Invalid, match="no bundle"):
        bw.opened(tmp_path / "nowhere", ring)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Invalid, match="not a regular file"):
        bw.opened(tmp_path / "pipe", ring)
    (tmp_path / "empty.tar").touch()
    with pytest.raises(Integrity, match="tar"):
        bw.opened(tmp_path / "empty.tar", ring)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Integrity, match=r"bundle\.json"):
        bw.opened(tmp_path / "empty", ring)
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with pytest.raises(Invalid):
        bw.opened(tmp_path / "link", ring)


def test_files_stay_open_no_longer_than_the_bundle(place: Path, ours: Publisher) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("b", "b.tar"):
        with bw.opened(place / name, ours.keyring(proof=False)) as bundle:
            for part in bundle.bundle.parts:
                bundle.check(part)
        with pytest.raises(Integrity):
            bw.opened(place / name, bw.Keyring(signers={}, root="sha256:" + "0" * 64))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_securesystemslib_verifies_the_envelope(bundle: Opened) -> None:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    value = json.loads(bundle.envelope)
    envelope = Envelope.from_dict(json.loads(bundle.envelope))
    assert envelope.payload_type == PAYLOAD_TYPE
    assert envelope.payload == bundle.raw
    ((name, signer),) = bundle_signers(bundle)
    key = SSlibKey(name, "ed25519", "ed25519", {"public": signer.hex()})
    assert envelope.verify([key], 1)
    assert len(value["signatures"]) == 1


def bundle_signers(bundle: Opened) -> list[tuple[str, bytes]]:
    ids = [one["keyid"] for one in json.loads(bundle.envelope)["signatures"]]
    return [(name, PUBLIC[name]) for name in ids]


PUBLIC: dict[str, bytes] = {}


@pytest.fixture(autouse=True)
def _public(ours: Publisher) -> None:
    PUBLIC.update({name: one.public for name, one in ours.keyring(proof=False).signers.items()})


def test_the_client_of_python_tuf_follows_the_same_metadata(tmp_path: Path) -> None:
    from tuf.ngclient import Updater
    from tuf.ngclient.fetcher import FetcherInterface

    now = time.time_ns() // 1_000_000
    ours = bw.publisher(tmp_path, now_ms=now)
    ours.new_root(now_ms=now)
    bw.made(tmp_path / "b", bw.content(tmp_path), ours, now_ms=now)
    folder = tmp_path / "b"

    class Folder(FetcherInterface):
        def _fetch(self, url: str) -> Iterator[bytes]:
            from tuf.api.exceptions import DownloadHTTPError

            name = url.removeprefix("folder:///")
            path = folder / ("bundle.json" if name.startswith("stable/") else name)
            if not path.exists():
                raise DownloadHTTPError("not there", 404)
            return iter([path.read_bytes()])

    (tmp_path / "seen").mkdir()
    (tmp_path / "targets").mkdir()
    updater = Updater(
        str(tmp_path / "seen"), "folder:///tuf/", str(tmp_path / "targets"), "folder:///", Folder(),
        bootstrap=(folder / "tuf" / "1.root.json").read_bytes(),
    )  # fmt: skip
    updater.config.prefix_targets_with_hash = False
    updater.refresh()
    found = updater.get_targetinfo("stable/1/bundle.json")
    assert found is not None
    assert found.custom == {"channel": "stable", "number": 1}
    got = updater.download_target(found)
    assert Path(got).read_bytes() == (folder / "bundle.json").read_bytes()


SAFE = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs",)) | st.sampled_from("/\\.: \0aA"), max_size=24
)


@given(SAFE)
@example("pack/..")
@example("CON.txt")
@example("a/COM\u00b9")
@example("e\u0301")
@settings(max_examples=300, deadline=None)
def test_a_path_that_passes_stays_inside_and_is_one_name_everywhere(path: str) -> None:
    try:
        names.check_path(path)
    except Integrity:
        return
    inside = os.path.normpath(os.path.join("/base", path))  # noqa: PTH118
    assert inside == f"/base/{path}"
    assert "\\" not in path
    assert ":" not in path
    assert names.fold(names.fold(path)) == names.fold(path)
    with pytest.raises(Integrity):
        names.check_distinct([path, path.upper() if path.upper() != path else path])


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_tar_that_passes_is_read_by_others_the_same(
    place: Path, ours: Publisher, data: st.DataObject
) -> None:
    assert ours.roots()
    raw = bytearray((place / "b.tar").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        block = data.draw(st.integers(0, len(raw) // 512 - 1)) * 512
        at = min(len(raw) - 1, block + data.draw(st.integers(0, 511)))
        raw[at] = data.draw(st.integers(0, 255))
    changed = place / "changed.tar"
    changed.write_bytes(raw)
    try:
        tree = open_tar(changed)
    except Integrity:
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(bytes(raw)), mode="r:") as other:
            assert {m.name: m.size for m in other if m.isfile()} == tree.sizes
            for name in tree.sizes:
                theirs = other.extractfile(name)
                assert theirs is not None
                with tree.open(name) as window:
                    assert window.readall() == theirs.read()
    finally:
        tree.close()


PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=8)


@given(
    st.recursive(
        PLAIN,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    )
)
@settings(max_examples=100, deadline=None)
def test_any_json_in_place_of_a_bundle_is_refused_as_such(value: object) -> None:
    with pytest.raises(Integrity):
        form.decode(json.dumps(value).encode())
