"""NIS 2, Article 21, as rules: suppliers, continuity, acquisition, cryptography."""
