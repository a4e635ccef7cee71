"""Writes a trained model as two small files: parameters, and a card that says what it is.

    python -m experiments.weights --workdir=runs/flowers17 --output=models/flowers17.json \\
        --card=flowers17_card.json
    python -m experiments.extract --model=models/flowers17.json --input=PHOTOS --output=cut_outs

--card is a JSON file with the entries data, licence, command, scores and limits: what a stranger
needs to know before using the model. The parameters, in half precision, go beside the card as
*.npz. They serve inference; training goes on from the run's folder alone.
"""

import json
import pathlib
from collections.abc import Sequence

from absl import flags

from drc_jax.errors import UserError
from drc_jax.runs.trained import load_run
from drc_jax.zoo.models import export
from experiments import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The card to write, *.json.", required=True)
_CARD = flags.DEFINE_string("card", None, "JSON file with the card's entries.", required=True)
_PRECISION = flags.DEFINE_enum(
    "precision", "float16", ("float16", "float32"), "Of the parameters on disk."
)


def main(argv: Sequence[str]) -> None:
    """Reads the run and writes the files."""
    del argv
    try:
        card = dict(json.loads(pathlib.Path(_CARD.value).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--card={_CARD.value} is no JSON file with entries: {error}") from None
    run = load_run(_WORKDIR.value)
    path = export(run, _OUTPUT.value, card, _PRECISION.value)
    size = path.stat().st_size / 1e6
    print(f"wrote {path} ({size:.1f} MB) after {run.step} iterations, and its card {_OUTPUT.value}")


if __name__ == "__main__":
    cli.run(main)
