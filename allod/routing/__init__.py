"""Capability, estimates, objectives: from the lawful deployments to a plan. Pure."""
