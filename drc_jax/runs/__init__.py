"""Runs: what their methods must have, their folders on disk, and opening what was trained."""
