"""The GDPR as rules: purposes, special categories, processors, security, transfers."""
