"""The FedRAMP pack: authorisation level, boundary, persons, place."""
