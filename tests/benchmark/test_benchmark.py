"""What the benchmark says besides times: FLOPs, bytes, bounds, tables, two reports compared."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from drc_jax.baselines.grabcut import GrabCutConfig
from drc_jax.benchmark import breakdown, flops, report, timing
from drc_jax.config import SamplerConfig, TrainConfig
from drc_jax.errors import UserError
from drc_jax.evaluation.regions import block_size
from drc_jax.runs.method import METHODS
from tests.helpers.methods import MeanConfig
from tests.helpers.small import TWO_BLOCKS

TINY = TrainConfig(
    model=TWO_BLOCKS,
    sampler=SamplerConfig(prior_steps=2, posterior_steps=3),
    batch_size=2,
)


@pytest.fixture(scope="module")
def by_name():
    return {layer.name: layer for layer in breakdown.posterior_layers(TINY)}


def test_flops_at_the_papers_size():
    """docs/method.md 9: 9.9 GFLOP per generator, 59 per step, 114 + 4 TFLOP per iteration."""
    config = TrainConfig()
    assert flops.generators_forward(config.model) / 3e9 == pytest.approx(9.9, abs=0.1)
    assert flops.posterior_step(config.model) / 1e9 == pytest.approx(59, abs=0.6)
    assert flops.train_iteration(config) / 1e12 == pytest.approx(118, abs=1.5)


def test_layers_add_up_to_the_analytic_flops(by_name):
    total = sum(layer.flops for layer in by_name.values())
    assert total == TINY.batch_size * flops.posterior_step(TINY.model)


def test_an_up_convolution_by_hand(by_name):
    """4 -> 6 channels, 4x4 to 8x8, batch 2, of foreground and background."""
    layer = by_name["up-conv 4 -> 6 to 8x8"]
    assert layer.count == 2
    one_way = 2 * (2 * 8 * 8) * 9 * 4 * 6
    assert layer.flops == 2 * 2 * one_way
    assert layer.least_flops == layer.flops // 4
    once = 4 * (2 * 4 * 4 * 4 + 9 * 4 * 6 + 2 * 8 * 8 * 6)
    assert layer.bytes == 2 * 2 * once
    # The re-assignment generator's first block has the background's base beside its own.
    assert by_name["up-conv 8 -> 6 to 8x8"].flops == layer.flops


def test_other_layers_by_hand(by_name):
    norm = by_name["norm, leaky 5 at 16x16"]
    assert (norm.count, norm.flops) == (3, 0)
    assert norm.bytes == 3 * 2 * 4 * (2 * 2 * 16 * 16 * 5 + 2 * 5)
    head = by_name["head 5 -> 4 at 16x16"]
    assert (head.count, head.flops) == (2, 2 * 2 * 2 * (2 * 16 * 16) * 9 * 5 * 4)
    assert head.least_flops == head.flops
    grid = by_name["grid_sample, 4 at 16x16"]
    assert grid.bytes == 2 * 4 * 2 * 16 * 16 * (4 + 2 + 4)


def test_maps_of_rounded_convolutions_are_half_as_large(by_name):
    model = dataclasses.replace(TINY.model, precision="bfloat16")
    rounded = breakdown.posterior_layers(dataclasses.replace(TINY, model=model))
    found = {layer.name: layer.bytes for layer in rounded}
    norm, head = "norm, leaky 5 at 16x16", "head 5 -> 4 at 16x16"
    weights = {norm: 3 * 2 * 4 * 2 * 5, head: 2 * 2 * 4 * 9 * 5 * 4}
    for name, fixed in weights.items():
        assert 2 * (found[name] - fixed) == by_name[name].bytes - fixed
    assert found["grid_sample, 4 at 16x16"] == by_name["grid_sample, 4 at 16x16"].bytes


def test_bound_is_the_longer_of_products_and_traffic(by_name):
    layer = by_name["up-conv 4 -> 6 to 8x8"]
    assert breakdown.Device(1.0, ((1, 1e30),)).bound(layer) == layer.least_flops
    assert breakdown.Device(1e30, ((1, 1.0),)).bound(layer) == layer.bytes


def test_what_fits_in_a_cache_moves_at_its_rate():
    device = breakdown.Device(1.0, ((100, 8.0), (1000, 2.0)))
    assert [device.bytes_per_second(n) for n in (1, 100, 101, 1000, 9999)] == [8, 8, 2, 2, 2]


def test_every_layer_runs_forward_and_backward(by_name):
    for layer in by_name.values():

        def total(weights, inputs, layer=layer):
            return jnp.sum(layer.function(weights, inputs))

        slopes = jax.eval_shape(jax.grad(total, argnums=1), layer.weights, layer.inputs)
        assert jax.tree.map(jnp.shape, slopes) == jax.tree.map(jnp.shape, layer.inputs)


def test_a_measured_layer_and_device(by_name, monkeypatch):
    monkeypatch.setattr(breakdown, "_LONG_ENOUGH", 1e-3)
    device = breakdown.measure_device("float32", side=32, megabytes=(1,))
    assert device.flops_per_second > 0 and device.bytes_per_second(1) > 0
    layer = by_name["head 5 -> 2 at 16x16"]
    measured = breakdown.measure(layer, device, "float32")
    assert measured.seconds > 0 and measured.bound_seconds == device.bound(layer)
    assert (measured.name, measured.flops) == (layer.name, layer.flops)


def test_memory_is_known_from_shapes_alone():
    memory = timing.program_memory(TINY, "prior")
    latents = 4 * TINY.batch_size * TINY.model.latent_dim
    assert memory is not None and memory.what_goes_out == latents
    assert memory.what_comes_in >= latents
    assert memory.total == memory.what_comes_in + latents + memory.temporaries


def timed(what: str, seconds: float, **fields) -> timing.Timing:
    found = timing.Timing(
        what=what,
        batch_size=2,
        steps=3,
        compile_seconds=1.5,
        seconds_min=seconds,
        seconds_median=1.5 * seconds,
        image_steps_per_second=2 / seconds,
        gflops_per_second=0.5,
        peak_bytes=None,
        program_bytes=3 * 2**20,
    )
    return dataclasses.replace(found, **fields)


BREAKDOWN = breakdown.Breakdown(
    device=breakdown.Device(1e10, ((2**20, 1e9),)),
    step_seconds=0.010,
    layers=(
        breakdown.LayerTiming("up-conv", 3, 8_000_000, 2_000_000, 1_000_000, 0.004, 0.001),
        breakdown.LayerTiming("norm", 3, 0, 0, 2_000_000, 0.002, 0.002),
    ),
)


def stored(tmp_path, name, timings, **fields):
    config = json.loads(json.dumps(dataclasses.asdict(TINY)))
    found = report.report(config, timings, BREAKDOWN, {})
    path = tmp_path / name
    path.write_text(json.dumps(found | fields))
    return report.read_report(path)


def test_layer_table_names_shares_sum_and_whole():
    lines = report.layer_table(BREAKDOWN).splitlines()
    cells = [line.split() for line in lines]
    assert cells[1] == "up-conv x3 4 ms 40.0% 0.008 2 0.9537 MiB 1 ms 25%".split()
    assert cells[2][-1] == "100%"
    assert lines[3].startswith("sum of the layers") and "60.0%" in lines[3]
    assert lines[4].startswith("whole step") and lines[4].endswith("30%")
    assert "10 GFLOP/s" in lines[5] and "1 (1 MiB)" in lines[5]
    assert len({len(line) for line in lines[:5]}) == 1


def test_timing_and_memory_tables():
    lines = report.timing_table([timed("prior", 0.002)]).splitlines()
    assert lines[1].split() == "prior 1.5 s 2 ms 3 ms 1000.0 0.5 3 MiB".split()
    sizes = timing.Memory(what_comes_in=2**20, what_goes_out=0, temporaries=3 * 2**20)
    lines = report.memory_table({"train": sizes}).splitlines()
    assert lines[1].split() == "train 1 MiB 0 MiB 3 MiB 4 MiB".split()


def test_comparison_of_like_reports(tmp_path):
    a = stored(tmp_path, "a.json", [timed("prior", 0.004), timed("train", 0.2)])
    b = stored(tmp_path, "b.json", [timed("prior", 0.002), timed("posterior", 0.1)])
    text = report.comparison(a, b)
    assert "same device" in text and "NOT ALIKE" not in text
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert rows["prior, min"][-5:] == ["4", "ms", "2", "ms", "2.00"]
    assert rows["prior, memory"][-1] == "1.00"
    assert rows["up-conv x3"][-1] == "1.00"
    assert "train" not in text and "posterior," not in text


def test_comparison_marks_what_differs(tmp_path):
    a = stored(tmp_path, "a.json", [timed("prior", 0.004)])
    b = stored(tmp_path, "b.json", [timed("prior", 0.002)], platform="gpu")
    b["config"]["batch_size"] = 48
    text = report.comparison(a, b)
    assert "NOT ALIKE" in text
    assert "config.batch_size: 2 -> 48" in text and "'gpu'" in text


def test_comparison_refusals(tmp_path):
    a = stored(tmp_path, "a.json", [timed("prior", 0.004)]) | {"breakdown": None}
    b = stored(tmp_path, "b.json", [timed("train", 0.2)]) | {"breakdown": None}
    with pytest.raises(UserError, match="no figure in common"):
        report.comparison(a, b)
    with pytest.raises(UserError, match="cannot be read"):
        report.read_report(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("speed")
    with pytest.raises(UserError, match="not JSON"):
        report.read_report(tmp_path / "text.json")
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(UserError, match="not a report"):
        report.read_report(tmp_path / "other.json")


def test_every_method_has_parts_to_time(monkeypatch):
    """A trained one its step and its inference, as a block; one that is not trained the latter."""
    monkeypatch.setitem(METHODS, "mean", "tests.helpers.methods:Mean")
    config = MeanConfig(batch_size=2)
    assert timing.parts_of(config) == ("segment", "train")
    assert timing.parts_of(TINY) == ("posterior", "prior", "train")
    for what, size in (("segment", block_size()), ("train", 2)):
        found = timing.benchmark(config, what, repeats=1)
        assert (found.what, found.batch_size, found.steps) == (what, size, 1)
        assert found.image_steps_per_second == pytest.approx(size / found.seconds_min)
        assert found.seconds_min > 0 and found.gflops_per_second is None
    memory = timing.program_memory(config, "segment")
    assert memory is not None and memory.what_goes_out >= 4 * block_size() * 8 * 8 * (2 * 4 + 3)
    assert report.timing_table([found]).splitlines()[1].split()[-3:-2] == ["-"]
    with pytest.raises(UserError, match="mean has no part 'prior' to time; it has segment, train"):
        timing.benchmark(config, "prior", repeats=1)


def test_what_is_not_compiled_is_timed_too():
    pytest.importorskip("cv2")
    found = timing.benchmark(GrabCutConfig(rounds=1), "segment", repeats=1)
    assert found.seconds_min > 0 and found.program_bytes is None
    assert timing.program_memory(GrabCutConfig(), "segment") is None
    with pytest.raises(UserError, match="grabcut has no part 'train' to time; it has segment"):
        timing.benchmark(GrabCutConfig(), "train", repeats=1)
