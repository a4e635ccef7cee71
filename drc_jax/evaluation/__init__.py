"""Scores, masks and pictures of any method's regions; knows arrays and data, no model."""
