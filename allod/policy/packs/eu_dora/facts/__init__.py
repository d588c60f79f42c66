"""Names of evidence the DORA pack asks for; data only."""
