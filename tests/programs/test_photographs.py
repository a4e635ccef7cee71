"""Photographs through the programs as their user starts them: from files to scores and cut-outs."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from drc_jax.data.packed.format import open_split
from drc_jax.data.prepare import prepare
from tests.helpers.starting import ROOT, output_of, start

ROTATED = 6  # the EXIF value for: turn by 90 degrees clockwise to see it upright

# As small as a model can be, so that compiling is all the time it takes.
TINY = (
    f"--config={ROOT / 'configs' / 'folder.py'}",
    "--config.model.zf_dim=4",
    "--config.model.zb_dim=2",
    "--config.model.zs_dim=4",
    "--config.model.generator_channels=(4, 4)",
    "--config.model.classifier_channels=(4,)",
    "--config.model.ebm_width=4",
    "--config.model.ebm_reassign_width=4",
    "--config.encoder.enabled=False",
    "--config.sampler.prior_steps=2",
    "--config.sampler.posterior_steps=2",
    "--config.sampler.test_steps=3",
    "--config.batch_size=4",
    "--config.iterations=2",
)


def refusal(program, *arguments):
    """The one line with which a program ends that cannot do what it is asked for."""
    done = start(program, *arguments)
    assert done.returncode == 2, done.stdout
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("error: ") and "Traceback" not in done.stderr
    return lines[-1]


def upright_size(i):
    """Width and height of the photograph number ``i``: no two alike, none square."""
    return (40 + i, 33) if i % 2 else (33, 40 + i)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs with masks, prepared as a folder and as an archive, and a run on the first."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for kind in ("photos/sub", "masks/sub"):
        (root / kind).mkdir(parents=True)
    squares = np.stack([rng.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(12)])
    # The upper i rows of the archive's image number i, at most all eight.
    square_masks = (np.arange(8)[:, None] < np.arange(12)[:, None, None]).repeat(8, axis=2)
    for i in range(12):
        width, height = upright_size(i)
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        # The upper half: it tells upright masks from turned ones.
        mask = np.zeros((height, width), np.uint8)
        mask[: height // 2] = 255
        photo, options = Image.fromarray(pixels), {}
        if i % 3 == 0:
            exif = Image.Exif()
            exif[0x0112] = ROTATED
            photo, options = photo.transpose(Image.Transpose.ROTATE_90), {"exif": exif}
        photo.save(root / f"photos/sub/{i:02d}.jpg", **options)
        Image.fromarray(mask).save(root / f"masks/sub/{i:02d}.png")
    np.savez(root / "all.npz", images=squares, masks=square_masks)
    np.savez(root / "bare.npz", images=squares)
    prepare(
        "folder",
        root / "packed",
        source=str(root / "photos"),
        masks=str(root / "masks"),
        size=8,
        test_fraction=0.25,
    )
    for name in ("all", "bare"):
        prepare("npz", root / name, source=str(root / f"{name}.npz"), test_fraction=1.0)
    output_of(
        *("train", *TINY, f"--workdir={root / 'run'}"),
        f"--config.data.path={root / 'packed'}",
    )
    return root


def evaluated(folder, files, *arguments):
    """The report of an evaluation and its lines per image."""
    output_of("evaluate", f"--workdir={folder / 'run'}", *arguments)
    with open(files / "test.csv", newline="", encoding="utf-8") as file:
        return json.loads((files / "test.json").read_text()), list(csv.DictReader(file))


def test_a_folder_is_scored(folder):
    own = folder / "run/eval"
    report, rows = evaluated(folder, own)
    split = open_split(folder / "packed", "test")
    assert report["num_images"] == len(rows) == 3 and [row["name"] for row in rows] == split.names
    assert all(name.startswith("sub/") for name in split.names)
    # Upright, the object is the upper half of the picture and so of the square in its middle.
    np.testing.assert_array_equal(split.masks[:, :3], 1)
    np.testing.assert_array_equal(split.masks[:, 5:], 0)
    assert report["true_share"] == pytest.approx(np.mean(split.masks))
    assert report["floors"]["mean_train_mask"]["iou"] > 0.9
    assert report["scores"]["fixed"]["iou"] == pytest.approx(
        np.mean([float(row["fixed_iou"]) for row in rows]), abs=1e-5
    )


def test_an_archive_is_scored_with_a_run_on_other_data(folder):
    others = folder / "run/eval/all"
    report, rows = evaluated(folder, others, f"--data={folder / 'all'}", "--batch_size=3")
    assert report["num_images"] == len(rows) == 12
    assert report["settings"]["data"] == str(folder / "all")
    # It has no training split, so no mean training mask either.
    assert report["floors"]["mean_train_mask"] is None
    shares = [float(row["true_share"]) for row in rows]
    assert shares == pytest.approx([min(i, 8) / 8 for i in range(12)])


def test_data_without_masks_are_refused(folder):
    line = refusal("evaluate", f"--workdir={folder / 'run'}", f"--data={folder / 'bare'}")
    assert "bare/test has no masks" in line
    line = refusal(
        *("analyse", f"--data={folder / 'bare'}", "--split=test", f"--output={folder / 'page'}"),
    )
    assert "bare/test has no masks" in line


def test_photographs_are_cut_out_at_their_own_size(folder):
    output = folder / "cut_outs"
    output_of(
        *("extract", f"--workdir={folder / 'run'}", f"--input={folder / 'photos'}"),
        f"--output={output}",
    )
    for kind in ("masks", "cutouts", "backgrounds"):
        for i in range(12):
            with Image.open(output / kind / f"sub/{i:02d}.png") as image:
                assert image.size == upright_size(i), (kind, i)
    # The masks it writes are masks that the preparation takes.
    said = output_of(
        *("prepare", "--dataset=folder", "--size=8", f"--source={folder / 'photos'}"),
        *(f"--masks={output / 'masks'}", f"--output={folder / 'again'}"),
    )
    assert "12 pictures kept, 0 damaged" in said


def test_data_sets_are_analysed_side_by_side(folder):
    said = output_of(
        *("analyse", f"--data={folder / 'packed'},{folder / 'all'}", "--split=test"),
        f"--output={folder / 'page'}",
    )
    assert "packed" in said and "all" in said
    numbers = json.loads((folder / "page" / "analysis.json").read_text())
    assert numbers["sets"]["packed"]["num_images"] == 3
    assert numbers["sets"]["packed"]["mean_mask_split"] == "train"
    assert numbers["sets"]["all"]["num_images"] == 12


def test_places_that_cannot_be_written_are_refused_before_the_work(folder):
    run, taken = f"--workdir={folder / 'run'}", folder / "all.npz"
    (folder / "folder.png").mkdir()
    below = taken / "out"
    for program, arguments, words in (
        ("sample", (run, f"--output={folder / 'folder.png'}"), "folder.png: it is a folder"),
        ("sample", (run, f"--output={below}.png"), "it is a file, not a folder"),
        ("extract", (run, f"--input={folder / 'photos'}", f"--output={below}"), "Not a directory"),
        ("analyse", (f"--data={folder / 'packed'}", f"--output={below}"), "Not a directory"),
        ("prepare", ("--dataset=scenes", "--size=8", f"--output={below}"), "Not a directory"),
    ):
        assert words in refusal(program, *arguments), program


def test_a_score_that_cannot_be_written_is_shown(folder):
    output = folder / "run/eval/all"
    (output / "test_grid.png").unlink(missing_ok=True)
    (output / "test_grid.png").mkdir(parents=True)
    done = start("evaluate", f"--workdir={folder / 'run'}", f"--data={folder / 'all'}", "--seed=7")
    assert done.returncode == 2
    assert "12 images" in done.stdout and "seed 7" in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "test_grid.png: Is a directory" in line and "Traceback" not in done.stderr
    # The numbers came first.
    assert json.loads((output / "test_iteration2_steps3_chains8_gamma_seed7.json").read_text())
    (output / "test_grid.png").rmdir()


def test_numbers_beyond_what_the_programs_take_are_refused(folder):
    run, output = f"--workdir={folder / 'run'}", f"--output={folder / 'never'}.png"
    for program, arguments in (
        ("evaluate", (run, "--seed=9223372036854775808")),
        ("evaluate", (run, "--steps=99999999999")),
        ("sample", (run, output, "--seed=-1")),
        ("sample", (run, output, "--steps=99999999999")),
        ("extract", (run, output, f"--input={folder / 'photos'}", "--seed=9223372036854775808")),
        ("prepare", ("--dataset=scenes", output, "--size=50")),
    ):
        assert arguments[-1].split("=")[1] in refusal(program, *arguments), program
