"""SecNumCloud 3.2 as rules: the qualification, places, owners, control."""
