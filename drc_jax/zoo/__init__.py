"""Trained weights, a card for each, and how they are read and written."""
