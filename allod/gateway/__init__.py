"""HTTP surfaces, command line, configuration: the only composition root."""
