"""The Indian pack: DPDP Act 2023, Rules 2025, and the SPDI Rules until then."""
