"""Evaluations of deployments on an organisation's own examples: cases, checkers, what a score may claim."""
