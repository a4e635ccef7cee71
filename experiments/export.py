"""Writes a trained model as one program that runs without drc_jax.

    python -m experiments.export --workdir=runs/demo --output=demo.stablehlo
    python -m experiments.export --model=flowers17 --output=flowers17.stablehlo --batch_size=4

The file holds the chains of a batch of new images, their rendering and the parameters, as StableHLO
(jax.export). It needs jax alone, of this version or one of the months after, and no file beside it:

    from jax import export
    program = export.deserialize(open("demo.stablehlo", "rb").read())
    regions = program.call(images, seed)  # uint8 [batch_size, S, S, 3], numpy.uint32(0)
    masks = regions["foreground_weight"] > 0.5
"""

from collections.abc import Sequence

from absl import flags

from drc_jax import files
from drc_jax.config import TrainConfig
from drc_jax.errors import UserError
from drc_jax.interop import stablehlo
from drc_jax.model.posterior import check_start
from experiments import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_MODEL = cli.model_flag()
_OUTPUT = flags.DEFINE_string("output", None, "File to write.", required=True)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Images at a time.", lower_bound=1)
_STEPS = flags.DEFINE_integer(
    "num_steps", 0, "Langevin steps from fresh chains; 0 takes the config's.", lower_bound=0
)
_START = cli.start_flag()
_PLATFORMS = flags.DEFINE_multi_enum(
    "platform", ["cpu"], stablehlo.PLATFORMS, "Where it shall run; give it again for others."
)


def main(argv: Sequence[str]) -> None:
    """Traces, lowers and writes."""
    del argv
    output = files.check_writable_file(_OUTPUT.value)
    run = cli.open_run(_WORKDIR.value, _MODEL.value)
    if not isinstance(run.config, TrainConfig):
        raise UserError(f"only runs of drc can be exported, and this one is of {run.method.name}")
    check_start(_START.value, run.params)
    steps = _STEPS.value or run.method.test_steps(run.config)
    content = stablehlo.exported(
        run.config,
        run.params,
        batch_size=_BATCH_SIZE.value,
        num_steps=steps,
        start=_START.value,
        platforms=tuple(dict.fromkeys(_PLATFORMS.value)),
    )
    files.write_atomically(output, content)
    side = run.config.image_size
    print(
        f"wrote {output} ({len(content) / 1e6:.1f} MB): {steps} steps for "
        f"{_BATCH_SIZE.value} images of {side}x{side} on {', '.join(_PLATFORMS.value)}"
    )


if __name__ == "__main__":
    cli.run(main)
