"""Legal entity identifiers (ISO 17442): eighteen characters and two check digits, ISO 7064 MOD 97-10."""

from __future__ import annotations

import re
from typing import Final

_LEI: Final = re.compile(r"[0-9A-Z]{18}[0-9]{2}", re.ASCII)


def fault(text: str) -> str | None:
    """Say what is wrong with an LEI, or return None: the form fits and the check digits do.

    That it was issued to anybody only the register of the Global LEI Foundation knows.
    """
    if not _LEI.fullmatch(text):
        return "not 18 letters or digits and two check digits"
    if int("".join(str(int(letter, 36)) for letter in text)) % 97 != 1:
        return "its check digits are wrong (ISO 7064 MOD 97-10)"
    return None
