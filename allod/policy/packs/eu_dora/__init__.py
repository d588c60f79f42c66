"""DORA as rules: register, contract clauses, exit, concentration."""
