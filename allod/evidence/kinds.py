"""The reports there are, by name; those of one person need more than a world (``subject``, ``hipaa``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from allod.evidence import aiact, exposure, gdpr, hipaa, inventory, roi, seal
from allod.evidence.paper import Report
from allod.evidence.world import World

SUBJECT: Final = "subject"
HIPAA: Final = "hipaa-disclosures"
KINDS: Final[dict[str, tuple[str, Callable[[World], Report]]]] = {
    "dora-roi": ("the register of information as CSV, with what would reject it", roi.register),
    "gdpr-art30": ("records of processing, as requests really went", gdpr.art30),
    "gdpr-transfers": ("transfers outside the EEA with their instruments", gdpr.transfers),
    "ai-act-log": ("the log of one use, with receipts that verify offline", aiact.use_log),
    HIPAA: ("accounting of disclosures of health information", hipaa.disclosures),
    "model-inventory": ("what runs, whose it is, what it was used for", inventory.inventory),
    "seal-dossier": ("sovereignty vectors, gaps and the facts behind", seal.dossier),
    "exposure": ("who can be compelled, by what, for which data", exposure.exposure),
}
NAMES: Final = (*KINDS, SUBJECT)
