"""Signatures of publishers without keys of their own: Sigstore bundles, verified without a network."""
