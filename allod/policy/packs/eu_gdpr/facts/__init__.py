"""Places with an adequacy decision, and the names of evidence the GDPR pack asks for; data only."""
