"""Worked cases of the GDPR pack; data only."""
