"""The README's example runs as it stands."""

import inspect
import pathlib
import re

import drc_jax

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_api_example_runs():
    text = (ROOT / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["mask"].shape == (2, 16, 16)
    assert set(names["aux"]) >= {"log_likelihood", "total_variation", "orthogonality"}


# What README, callers and other people's code use: to be kept.
PUBLIC = """
    DRC DataConfig ModelConfig OptimizerConfig Regions SamplerConfig Terms TrainConfig TrainState
    UserError ebm_loss generator_loss infer init_params init_state interop.params_from_torch
    langevin.sample load_pretrained load_run ops.grid_sample ops.upsample_conv posterior_energy
    prior_energy render sample_prior train_step
"""


def test_every_public_name_exists():
    for name in PUBLIC.split():
        first, *rest = name.split(".")
        assert first in drc_jax.__all__, name
        found = getattr(drc_jax, first)
        for part in rest:
            found = getattr(found, part)
        assert callable(found), name


def test_no_function_shares_its_name_with_a_module():
    for name in drc_jax.__all__:
        path = ROOT / "drc_jax" / name
        is_module = path.is_dir() or path.with_suffix(".py").exists()
        assert is_module == inspect.ismodule(getattr(drc_jax, name)), name
