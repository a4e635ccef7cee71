"""The packed format: one file per split, read by position."""
