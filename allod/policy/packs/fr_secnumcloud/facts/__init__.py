"""The Union as a list, and the names of evidence the pack asks for; data only."""
