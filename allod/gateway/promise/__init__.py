"""The promise of a task in the running gateway: base, check, escalation, audits, and the bound they prove."""
