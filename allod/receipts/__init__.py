"""Receipts: canonical form, Merkle tree, checkpoints, proofs, verification. Pure: no I/O, clock or chance."""
