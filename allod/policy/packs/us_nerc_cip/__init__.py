"""The NERC CIP pack: BES Cyber System Information."""
