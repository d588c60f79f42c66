"""Detection: what in a text raises the class of a request. Pure; see docs/classification.md."""

from __future__ import annotations

from allod.admission.detect.detector import Detector
from allod.admission.detect.model import Config, Finding, Scan
from allod.admission.detect.parts import walk

__all__ = ["Config", "Detector", "Finding", "Scan", "walk"]
