"""Packs shipped with Allod: data only, read by the composition root through importlib.resources."""
