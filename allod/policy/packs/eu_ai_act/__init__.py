"""The EU AI Act as rules: prohibited purposes, high-risk uses, transparency."""
