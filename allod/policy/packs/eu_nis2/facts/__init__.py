"""Names of evidence the NIS 2 pack asks for; data only."""
