"""A folder of one's own photographs, at 64x64: one kind of object before any background.

    python -m experiments.prepare --dataset=folder --source=PHOTOS --size=64 --output=data/photos_64
    python -m experiments.train --config=configs/folder.py --workdir=runs/photos
    python -m experiments.extract --workdir=runs/photos --input=PHOTOS --output=cut_outs

What to change, most useful first:
- Pictures. Some hundreds at least, thousands if there are; the object large and in the middle.
  `--boxes=FILE.csv` crops around objects that are small or off centre.
- Size. For 128x128 prepare with --size=128 and delete the lines on channels and langevin_weight.
- Backgrounds. The background must be simpler than the object, or the two change places. Where
  masks come out inverted or empty, lower zb_dim: 64 or 16 for scenery, 2 to 4 for plain walls.
- Time. Look at runs/photos/images as it trains; more `iterations` sharpen outlines. If memory is
  short, lower batch_size. --chains=1 of extract is eight times as fast, for a quick look.
- Mirroring. `--config.data.flip=False` for objects whose left and right differ.

Cost: a fifth of the paper's per image and step, half its iterations. Not timed yet, and out of
reach of two CPU cores; docs/photographs.md tells how far smaller networks came there.
Score: depends on the pictures; with --masks=DIR in the preparation, experiments.evaluate tells.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = default.get_config()
    config.model.generator_channels = (128, 512, 256, 128, 64)
    config.model.classifier_channels = (64, 128, 256, 512)
    # A picture of a quarter of the pixels weighs a quarter as much against the prior.
    config.model.langevin_weight = 4.0
    config.model.zf_dim = 256
    config.model.zb_dim = 128
    config.model.zs_dim = 256
    config.model.num_fg_categories = 30
    config.model.num_bg_categories = 30
    config.model.orthogonality_weight = 1.0
    config.sampler.test_steps = 50
    config.sampler.test_chains = 8
    config.sampler.test_mask_from = "gamma"
    config.data.dataset = "folder"
    config.data.path = "data/photos_64"
    config.iterations = 5_000
    config.image_every = 250
    return config
