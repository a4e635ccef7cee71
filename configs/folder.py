"""A folder of one's own photographs, at 64x64: one kind of object before any background.

    python -m experiments.prepare --dataset=folder --source=PHOTOS --size=64 --output=data/photos_64
    python -m experiments.train --config=configs/folder.py --workdir=runs/photos
    python -m experiments.extract --workdir=runs/photos --input=PHOTOS --output=cut_outs

What to change, most useful first:
- Pictures. Some hundreds at least, thousands if there are; the object large and in the middle.
  `--boxes=FILE.csv` crops around objects that are small or off centre.
- Size. For a quick look configs/quarter/photographs.py, which is this at 32x32.
- Outlines. --refine=colours of extract cuts at the picture's own size, beginning at the mask.
- Backgrounds. The background must be simpler than the object. Where it paints the object too and
  masks come out inverted or empty, raise warm_up_tv_weight: 1.5, then 2. Where it is one colour
  after 500 iterations and masks have half of the picture, lower it.
- Time. Look at runs/photos/images as it trains: what the first 500 iterations do not divide, more
  will hardly. If memory is short, lower batch_size. --chains=1 of extract is eight times as fast,
  for a quick look.
- Mirroring. `--config.data.flip=False` for objects whose left and right differ.

Values are those of configs/quarter/photographs.py, which says what differs from the paper and why.

Cost: 0.9 s per iteration on one CPU core.
Score: depends on the pictures; with --masks=DIR in the preparation, experiments.evaluate tells. As
configs/quarter/flowers17_64.py flowers have 69 after 11 minutes.
"""

from ml_collections import ConfigDict

from configs.quarter import photographs


def get_config() -> ConfigDict:
    """A locked ConfigDict with every field of ``TrainConfig``."""
    config = photographs.at_64(photographs.get_config())
    config.data.dataset = "folder"
    config.data.path = "data/photos_64"
    return config
