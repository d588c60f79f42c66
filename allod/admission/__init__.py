"""Identity, labels and limits: from a raw request to an admitted one. Pure."""
