"""Programs in other frameworks that compute the same thing, to measure drc_jax against."""
