"""The Nigerian skeleton, worked through: NDPA 2023 and GAID 2025."""
