"""The EU Cloud Sovereignty Framework as rules: levels per objective, a weighted score."""
