"""Per-request estimates in the product: what evaluations and audits teach, and how plans read it."""
