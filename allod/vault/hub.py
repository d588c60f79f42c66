"""Fetching one file of one repository from a model hub, pinned to its commit and its digest.

The client library is the optional extra ``allod[hub]``; it is imported only when something is pulled. Any
server that speaks the hub's ``resolve`` protocol can stand in (``endpoint``, or the library's own variable
``HF_ENDPOINT``). What arrives passes the same checks as any other file.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any, Final, NoReturn

import msgspec

from allod.domain.errors import Invalid, Unavailable

INSTALL: Final = "pip install 'allod[hub]'"
MAX_PATH: Final = 256
_COMMIT: Final = re.compile(r"[0-9a-f]{40,64}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_REPO: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION: Final = re.compile(r"[A-Za-z0-9][\w./-]{0,127}")


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub says a file is: ``digest`` is None for a file it keeps without one."""

    endpoint: str
    repo: str
    file: str
    revision: str
    digest: str | None
    size_bytes: int | None


def _library() -> Any:
    try:
        import huggingface_hub  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise Invalid("the hub's client is not installed", "pulling models is an extra", INSTALL) from error
    return huggingface_hub


def _check(repo: str, file: str, revision: str) -> None:
    path = PurePosixPath(file)
    if not _REPO.fullmatch(repo):
        raise Invalid(f"{repo[:80]!r} is not a repository", "it is written owner/name", param="repo")
    outside = path.is_absolute() or ".." in path.parts or "\\" in file
    if outside or path.suffix != ".gguf" or len(file) > MAX_PATH:
        raise Invalid(
            f"{file[:80]!r} is not taken", "only GGUF files inside the repository are", param="file"
        )
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise Invalid(
            f"{revision[:80]!r} is not a revision", "name a branch, a tag or a commit", param="revision"
        )


def _fail(error: Exception, repo: str) -> NoReturn:
    raise Unavailable(
        f"{repo} could not be pulled",
        f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}",
        "check the names, your right to read the repository, and the way to the hub",
    ) from error


def pin(repo: str, file: str, revision: str, *, endpoint: str | None = None, token: str | None = None) -> Pin:
    """Ask the hub which commit and digest a file has now; nothing of it is fetched.

    Raises:
        Invalid: bad names, or the client library is missing.
        Unavailable: no such file, no right to it, or no hub.

    """
    _check(repo, file, revision)
    hub = _library()
    base = endpoint or str(hub.constants.ENDPOINT)
    try:
        url = hub.hf_hub_url(repo, file, revision=revision, endpoint=base)
        found = hub.get_hf_file_metadata(url, token=token or False, endpoint=base)
    except Exception as error:  # noqa: BLE001 (the library's transport has an error tree of its own)
        _fail(error, repo)
    if found.commit_hash is None or not _COMMIT.fullmatch(found.commit_hash):
        raise Unavailable(f"{repo} could not be pulled", "the hub names no commit for it", "ask another hub")
    etag = found.etag or ""
    return Pin(
        endpoint=base,
        repo=repo,
        file=file,
        revision=found.commit_hash,
        digest=f"sha256:{etag}" if _SHA256.fullmatch(etag) else None,
        size_bytes=found.size,
    )


def fetch(pinned: Pin, folder: Path, *, token: str | None = None) -> Path:
    """Download a pinned file into a folder of one's own and return its path; its digest is not checked here.

    Raises:
        Unavailable: the hub or the way to it failed.

    """
    hub: Any = _library()
    try:
        path = hub.hf_hub_download(
            pinned.repo,
            pinned.file,
            revision=pinned.revision,
            endpoint=pinned.endpoint,
            token=token or False,
            local_dir=folder,
        )
    except Exception as error:  # noqa: BLE001 (as above)
        _fail(error, pinned.repo)
    return Path(path)
