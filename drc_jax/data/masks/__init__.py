"""Masks of data sets that have none: given, or detected, filtered and reviewed."""
