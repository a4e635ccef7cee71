"""Deep Region Competition: networks, rendering, energies and losses."""
