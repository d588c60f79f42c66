"""Reversible pseudonymisation: values leave as keyed tokens and come back in the answer. Pure.

It does not lift a data class: pseudonymised data stay personal data (GDPR Art 4(5)). It may only lower what
policy demands where a pack says so (``context.pseudonymised``).
"""

from allod.admission.pseudonym.conversation import conversation_key, opening
from allod.admission.pseudonym.cover import NOTE, Covered, Pseudonymiser
from allod.admission.pseudonym.known import Findings
from allod.admission.pseudonym.restore import Restorer
from allod.admission.pseudonym.routes import refuses
from allod.admission.pseudonym.tokens import TOPICS, Table

__all__ = [
    "NOTE", "TOPICS", "Covered", "Findings", "Pseudonymiser", "Restorer", "Table", "conversation_key",
    "opening", "refuses",
]  # fmt: skip
