"""Bank practice on model risk: inventory, owner, validation."""
