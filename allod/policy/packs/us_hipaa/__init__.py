"""The HIPAA pack: business associates, minimum necessary, transmission, no training."""
