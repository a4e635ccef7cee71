"""How long each part of a config takes, and why."""
