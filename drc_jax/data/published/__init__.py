"""Data sets read from their published archives."""
