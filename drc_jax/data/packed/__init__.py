"""The packed format: one file per split, read through memory maps."""
