"""Canonical form, Merkle tree, checkpoints, proofs, verification. Pure."""
