"""Photographs: found, read, cropped and resized."""
