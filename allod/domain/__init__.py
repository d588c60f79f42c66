"""Nouns only, frozen: the words every room shares. No I/O, no clock, no randomness."""
