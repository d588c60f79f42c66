"""The Korean skeleton: PIPA 28-8 and the AI Basic Act, Art 31."""
