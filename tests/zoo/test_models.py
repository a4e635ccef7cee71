"""Trained weights: written and read back, used, and refused in one line where they are damaged."""

import configparser
import dataclasses
import hashlib
import io
import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

import drc_jax
from drc_jax.data.generated import scenes
from drc_jax.errors import UserError
from drc_jax.evaluation.extract import extract
from drc_jax.inference import image_keys
from drc_jax.runs.trained import Run
from drc_jax.zoo import models
from tests.helpers.small import CARD, small_card, small_run
from tests.helpers.starting import ROOT, start

FOLDER = pathlib.Path(models.__file__).parent


@pytest.fixture(scope="module")
def run() -> Run:
    return small_run()


@pytest.fixture
def card(tmp_path) -> pathlib.Path:
    return small_card(tmp_path)


def test_single_precision_comes_back_bit_for_bit_and_half_rounded(run, card, tmp_path):
    loaded = drc_jax.load_pretrained(str(card))
    assert (loaded.config, loaded.step, loaded.method) == (run.config, 7, run.method)
    assert "classifier" not in loaded.params
    for part in ("generator", "ebm"):
        jax.tree.map(np.testing.assert_array_equal, loaded.params[part], run.params[part])
    models.export(run, tmp_path / "half.json", CARD)
    half = drc_jax.load_pretrained(str(tmp_path / "half.json"))
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(half.params))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-10, atol=1e-7),
        half.params["generator"],
        run.params["generator"],
    )
    with np.load(tmp_path / "half.npz") as arrays:
        assert {arrays[name].dtype for name in arrays.files} == {np.dtype("f2"), np.dtype("u1")}
    assert models.read_card(str(card)).items() >= {**CARD, "seed": 5}.items()


def test_a_loaded_model_finds_the_regions_that_the_run_finds(run, card):
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    keys = image_keys(jax.random.key(0), images)
    found = drc_jax.load_pretrained(str(card)).segment(keys, images, num_steps=3)
    np.testing.assert_array_equal(found.pi, run.segment(keys, images, num_steps=3).pi)


def rewritten(card: pathlib.Path, change) -> None:
    """Changes the npz's arrays, and gives the card the new digest."""
    with np.load(card.with_suffix(".npz")) as arrays:
        arrays = {name: arrays[name] for name in arrays.files}
    change(arrays)
    content = io.BytesIO()
    np.savez(content, **arrays)
    card.with_suffix(".npz").write_bytes(content.getvalue())
    values = json.loads(card.read_text())
    values["sha256"] = hashlib.sha256(content.getvalue()).hexdigest()
    card.write_text(json.dumps(values))


def one_byte(card):
    content = bytearray(card.with_suffix(".npz").read_bytes())
    content[len(content) // 2] ^= 1
    card.with_suffix(".npz").write_bytes(content)


def cut_short(card):
    content = card.with_suffix(".npz").read_bytes()
    card.with_suffix(".npz").write_bytes(content[: len(content) // 2])


def without_entry(card):
    values = json.loads(card.read_text())
    del values["licence"]
    card.write_text(json.dumps(values))


def pickled(card):
    rewritten(card, lambda arrays: arrays.update(bad=np.array([print], dtype=object)))


def without_array(card):
    rewritten(card, lambda arrays: arrays.pop(next(k for k in arrays if k.startswith("ebm"))))


def another_shape(card):
    def change(arrays):
        name = next(k for k in arrays if k.startswith("generator"))
        arrays[name] = arrays[name][..., None]

    rewritten(card, change)


def another_config(card):
    def change(arrays):
        about = json.loads(arrays["about"].tobytes())
        about["config"]["model"]["zf_dim"] = -1
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)

    rewritten(card, change)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (one_byte, r"small\.npz is damaged: its digest is not the card's"),
        (cut_short, r"small\.npz is damaged: its digest is not the card's"),
        (lambda card: card.with_suffix(".npz").unlink(), r"small\.npz cannot be read: No such"),
        (lambda card: card.write_text("{"), r"the card .*small\.json cannot be read"),
        (lambda card: card.write_text("3"), r"the card .*small\.json cannot be read"),
        (without_entry, r"the card .*small\.json says nothing of licence"),
        (pickled, r"small\.npz is no npz of plain arrays: .*allow_pickle"),
        (without_array, r"small is not a model this version can read: \['ebm'\].* is None in"),
        (another_shape, r"small is not a model this version can read: \['generator'\].* in place"),
        (another_config, r"small is not a model this version can read: model.zf_dim must be"),
    ],
)
def test_damaged_files_are_refused_in_one_line(card, damage, message):
    damage(card)
    with pytest.raises(UserError, match=message) as caught:
        drc_jax.load_pretrained(str(card))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_exported_is_refused(run, tmp_path):
    with pytest.raises(UserError, match="a card also needs licence"):
        models.export(run, tmp_path / "a.json", {k: CARD[k] for k in CARD if k != "licence"})
    huge = run._replace(params=jax.tree.map(lambda x: x + 1e6, run.params))
    with pytest.raises(UserError, match="too large for float16; take float32"):
        models.export(huge, tmp_path / "a.json", CARD)
    assert not list(tmp_path.iterdir())


def test_models_that_there_are_not_are_refused():
    with pytest.raises(UserError, match=r"there is no model 'flower17'; there are .*did you mean"):
        drc_jax.load_pretrained("flower17")
    with pytest.raises(UserError, match=r"no card nowhere\.json"):
        drc_jax.load_pretrained("nowhere.json")


@pytest.mark.parametrize("name", models.names())
def test_every_model_extracts_from_generated_pictures(name, tmp_path):
    run = drc_jax.load_pretrained(name)
    size = run.config.image_size
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        image = scenes.generate(number, size=size, seed=0, split="test").image
        Image.fromarray(image).resize((50, 40)).save(photos / f"{number}.png")

    find = run.infer_batch(0, num_steps=3, num_chains=4)  # the butterflies' 32 take a minute
    result = extract(find, photos, tmp_path / "out", image_size=size, soft=True)
    assert (result.num_done, result.failed) == (2, [])
    masks = [np.asarray(Image.open(tmp_path / "out" / "masks" / f"{n}.png")) for n in range(2)]
    assert masks[0].shape == (40, 50) and len(np.unique(masks[0])) > 10
    assert np.abs(masks[0].astype(int) - masks[1]).max() > 5


@pytest.mark.parametrize("name", models.names())
def test_cards_say_what_a_stranger_needs(name):
    card = models.read_card(name)
    assert all(card[key] or card[key] == 0 for key in models.CARD)
    assert "experiments.train --config=configs/" in card["command"]
    config = drc_jax.load_pretrained(name).config
    assert card["seed"] == config.seed


def test_the_package_carries_the_models_and_they_are_small():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    patterns = parser["options.package_data"]["drc_jax"].split()
    carried = {path for pattern in patterns for path in FOLDER.parent.glob(pattern)}
    files = {FOLDER / f"{name}{ending}" for name in models.names() for ending in (".json", ".npz")}
    assert files and files <= carried
    assert sum(path.stat().st_size for path in files) < 8e6
    others = {path for path in FOLDER.iterdir() if path.suffix not in (".py", "")}
    assert others == files  # no photograph, no leftover


def test_programs_take_a_model_or_a_run(tmp_path):
    there = f"--input={tmp_path}", f"--output={tmp_path / 'out'}"
    for flags in ((), ("--workdir=runs/x", "--model=flowers17")):
        found = start("extract", *flags, *there)
        assert found.returncode == 2
        assert found.stderr.startswith("error: give --workdir, the folder of an")
    found = start("extract", f"--model={small_card(tmp_path)}", "--start=encoder", *there)
    assert found.returncode == 2
    assert found.stderr.startswith("error: start 'encoder' needs a model trained with")
    found = start("extract", "--model=flower17", *there)
    assert found.stderr.startswith("error: there is no model 'flower17'")


def test_the_config_is_that_of_the_run_whatever_is_added_later(run, card):
    """A field that a later version adds has its default: models written before are read."""

    def change(arrays):
        about = json.loads(arrays["about"].tobytes())
        del about["config"]["model"]["energy_penalty_weight"]
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)

    rewritten(card, change)
    assert dataclasses.asdict(drc_jax.load_pretrained(str(card)).config) == dataclasses.asdict(
        run.config
    )
