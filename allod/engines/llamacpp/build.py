"""Which engine build is installed, and which builds are not fit to open a file."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from allod.domain.errors import Integrity, Unavailable
from allod.vault.blobs import digest_of, open_regular

PACKAGE: Final = "xllamacpp"
MINIMUM_BUILD: Final = 10_760
"""The first build known to hold all the fixes below (llama.cpp build of 2 September 2026)."""
FIXED_BEFORE_MINIMUM: Final[tuple[str, ...]] = (
    "CVE-2025-49847 (vocabulary overflow at load)",
    "CVE-2025-53630 (tensor size overflow)",
    "CVE-2026-33298 (tensor size overflow, fixed in 7824)",
    "CVE-2026-27940 (bypass of CVE-2025-53630, fixed in 8146)",
    "CVE-2026-21869 (negative n_discard)",
    "PLaMo-2 byte tokens (llama.cpp 25969 and 27226, build 10252 is vulnerable)",
    "loader faults of lmstudio-bug-tracker 2289 (commit 6fed9f6f)",
)
REFUSED_BUILDS: Final[frozenset[int]] = frozenset()
"""Single later builds found vulnerable: none is known."""


class Build(msgspec.Struct, frozen=True):
    """The engine as installed: package version, llama.cpp build number, digest of its library."""

    version: str
    number: int
    digest: str


def number_of(version: str) -> int:
    """Read the llama.cpp build number, the last part of the package's version (raises ``Unavailable``)."""
    last = version.split("+", 1)[0].rsplit(".", 1)[-1]
    if not last.isdigit():
        raise Unavailable("the engine does not say its build", f"its version is {version!r}", kind="down")
    return int(last)


def check_number(number: int) -> None:
    """Refuse a vulnerable build (raises ``Unavailable`` that names what it is vulnerable to)."""
    if number < MINIMUM_BUILD or number in REFUSED_BUILDS:
        raise Unavailable(
            f"engine build {number} is refused",
            f"builds before {MINIMUM_BUILD} lack fixes for " + "; ".join(FIXED_BEFORE_MINIMUM),
            f"install a newer {PACKAGE}",
            kind="down",
        )


def installed() -> Build:
    """Find the installed engine without loading it, check its build and digest its library.

    Raises:
        Unavailable: not installed, or a refused build.
        Integrity: the installation holds no library, or more than one.

    """
    try:
        found = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise Unavailable(
            "no engine is installed", str(error), f"pip install {PACKAGE}", kind="down"
        ) from error
    number = number_of(found.version)
    check_number(number)
    libraries = [
        Path(str(found.locate_file(file)))
        for file in found.files or ()
        if file.parts[0] == PACKAGE and file.suffix in {".so", ".pyd"}
    ]
    if len(libraries) != 1:
        raise Integrity("the engine's installation is broken", f"it holds {len(libraries)} libraries")
    fd = open_regular(libraries[0], "the engine's library")
    try:
        return Build(found.version, number, digest_of(fd))
    finally:
        os.close(fd)
