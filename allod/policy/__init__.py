"""Packs, Cedar evaluation (compiled and reference), explanation. Pure: no I/O, no clock."""

from allod.policy.cases import CaseResult, run_cases
from allod.policy.pack import Pack, Rule, load_pack, run_lint
from allod.policy.policy import Policy, PolicyQuestion

__all__ = ["CaseResult", "Pack", "Policy", "PolicyQuestion", "Rule", "load_pack", "run_cases", "run_lint"]
