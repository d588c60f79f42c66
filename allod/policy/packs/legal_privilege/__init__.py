"""The pack of legal privilege: confidentiality, no training, no retention."""
