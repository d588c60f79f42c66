"""Surfaces: the HTTP dialects the gateway speaks, each a pure translation to and from the neutral form."""
