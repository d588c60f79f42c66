"""The base pack: residency, air gap, provenance, compelled access."""
