"""Weights by digest: structural checks, manifests, the models this package ships."""
