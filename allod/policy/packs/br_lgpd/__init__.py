"""The Brazilian pack: LGPD transfers and sensitive data."""
