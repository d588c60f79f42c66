"""The Indonesian skeleton, worked through: Law 27/2022, GR 71/2019, GR 33/2026."""
