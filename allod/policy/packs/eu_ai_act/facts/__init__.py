"""Names of evidence the AI Act pack asks for; data only."""
