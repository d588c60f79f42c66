"""Simulators of operators' dialects, written from their documentation. Nothing here is a real model."""
