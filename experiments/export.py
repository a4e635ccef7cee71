"""Writes a trained model as one program that runs without drc_jax.

    python -m experiments.export --workdir=runs/demo --output=demo.stablehlo
    python -m experiments.export --model=flowers17 --output=flowers17.stablehlo --batch_size=4

The file holds the chains of a batch of new images, their rendering and the parameters, as StableHLO
(jax.export). It needs jax alone, of this version or of the six months after, and no file beside it:

    from jax import export
    program = export.deserialize(open("demo.stablehlo", "rb").read())
    regions = program.call(images, seed)  # uint8 [batch_size, S, S, 3], numpy.uint32(0)
    masks = regions["foreground_weight"] > 0.5

--format=onnx writes the generators, which map latents to regions, and beside them, as
NAME_encoder.onnx, the encoder of a run that was trained with one. ONNX has no chains.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from drc_jax import files
from drc_jax.config import TrainConfig
from drc_jax.errors import UserError
from drc_jax.interop import onnx, stablehlo
from drc_jax.model import encoder
from drc_jax.runs.trained import Run
from experiments import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.")
_MODEL = cli.model_flag()
_OUTPUT = flags.DEFINE_string("output", None, "File to write.", required=True)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Images at a time.", lower_bound=1)
_STEPS = flags.DEFINE_integer(
    "num_steps", 0, "Langevin steps from fresh chains; 0 takes the config's.", lower_bound=0
)
_START = cli.start_flag()
_FORMAT = flags.DEFINE_enum("format", "stablehlo", ("stablehlo", "onnx"), "What to write.")
_PLATFORMS = flags.DEFINE_multi_enum(
    "platform", ["cpu"], stablehlo.PLATFORMS, "Where it shall run; give it again for others."
)


def main(argv: Sequence[str]) -> None:
    """Traces, lowers and writes."""
    del argv
    output = files.check_writable_file(_OUTPUT.value, ".onnx" if _FORMAT.value == "onnx" else "")
    run = cli.open_run(_WORKDIR.value, _MODEL.value)
    if not isinstance(run.config, TrainConfig):
        raise UserError(f"only runs of drc can be exported, and this one is of {run.method.name}")
    if _FORMAT.value == "onnx":
        _write_onnx(run, output)
        return
    run.check_start(_START.value)
    steps = run.sampler_steps(_STEPS.value)
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
    chains = run.sampler_chains(0)
    if chains > 1:
        print(f"it runs one chain: take the mean foreground_weight of {chains} seeds for masks")


def _write_onnx(run: Run, output: pathlib.Path) -> None:
    model, batch_size = run.config.model, _BATCH_SIZE.value
    contents = {output: onnx.generators(model, run.params, batch_size)}
    if encoder.NAME in run.params:
        path = output.with_stem(f"{output.stem}_encoder")
        contents[path] = onnx.encoder_network(model, run.params, batch_size)
    for path, content in contents.items():
        files.write_atomically(path, content)
        print(f"wrote {path} ({len(content) / 1e6:.1f} MB) for a batch of {batch_size}")


if __name__ == "__main__":
    cli.run(main)
