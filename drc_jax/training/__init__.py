"""One training iteration, and the run around it."""
