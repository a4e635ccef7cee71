"""What the site makes when it is built: the table of config fields, from the dataclasses."""

from typing import Any

from drc_jax.config import TrainConfig, described

_PLACE = "<!-- The site puts the table of drc_jax.config.described here. -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the table in the place that docs/fields.md keeps for it."""
    if _PLACE not in markdown:
        return markdown
    return markdown.replace(_PLACE, described.table(TrainConfig()))
