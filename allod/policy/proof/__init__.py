"""Proof over symbolic deployments: theorems, refinement between versions, enumeration of a fleet.

Everything that needs the solver imports it when it runs (``allod[prove]``); importing this package does not.
What is proved, over what, and what a proof cannot say: ``docs/proofs.md``.
"""
