"""Small archives in the layouts in which the data sets are published."""

import hashlib
import io
import pathlib
import tarfile

import numpy as np
from PIL import Image


def picture(width, height, seed):
    """A smooth picture, so that its JPEG stays close: uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encoded(array, kind):
    """The bytes of a PNG or JPEG file."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, quality=95)
    return file.getvalue()


def decoded(data):
    """The pixels of a PNG or JPEG file, uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def resized(image, size):
    """A picture shrunk by Pillow alone."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def tar(path, files, mode="w:gz"):
    """Writes an archive of files given by name, with entries for their folders."""
    parents = {p for name in files for p in pathlib.PurePosixPath(name).parents}
    with tarfile.open(path, mode) as archive:
        for folder in sorted(str(p) for p in parents if str(p) != "."):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def trust(monkeypatch, builder_name, folder):
    """Puts the checksums of the archives in ``folder`` in the place of the published ones."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import checksums

    builder = tfds.builder_cls(builder_name)
    trusted = {}
    for url, info in builder.url_infos.items():
        file = pathlib.Path(folder) / info.filename
        if file.exists():
            data = file.read_bytes()
            info = checksums.UrlInfo(len(data), hashlib.sha256(data).hexdigest(), info.filename)
        trusted[url] = info
    monkeypatch.setattr(builder, "url_infos", trusted)


# Caltech-UCSD Birds -------------------------------------------------------------------------------

BIRD_SIZE = (200, 120)
# Name, published split, box (x, y, width, height) of images.txt, which is not in order of names.
BIRDS = (
    ("001.Black_footed_Albatross/Black_Footed_Albatross_0046_18", 1, (60.0, 30.0, 40.0, 40.0)),
    ("001.Black_footed_Albatross/Black_Footed_Albatross_0009_34", 0, (0.0, 0.0, 30.0, 20.0)),
    ("002.Laysan_Albatross/Laysan_Albatross_0002_1027", 1, (150.0, 90.0, 50.0, 30.0)),
    ("002.Laysan_Albatross/Laysan_Albatross_0003_1033", 0, (20.0, 10.0, 160.0, 100.0)),
)
# Annotators' shares of a mask.
LEVELS = (0, 51, 102, 153, 204, 255)


def bird_mask(i):
    """A grey block, and in the second bird stripes of all levels: uint8 [120, 200]."""
    mask = np.zeros(BIRD_SIZE[::-1], np.uint8)
    if i == 1:
        mask[:] = np.repeat(np.array((*LEVELS, *[0] * 14), np.uint8), 10)
    else:
        mask[29:71, 62:98] = 255
    return mask


def bird_images():
    return [encoded(picture(*BIRD_SIZE, seed), "JPEG") for seed in range(len(BIRDS))]


def write_birds(folder, images=None):
    """``CUB_200_2011.tgz`` and ``segmentations.tgz``."""
    images = images or bird_images()
    lists = {
        "images.txt": [f"{name}.jpg" for name, _, _ in BIRDS],
        "train_test_split.txt": [str(is_train) for _, is_train, _ in BIRDS],
        "bounding_boxes.txt": [" ".join(map(str, box)) for _, _, box in BIRDS],
    }
    files = {
        f"CUB_200_2011/{name}": "".join(f"{i} {x}\n" for i, x in enumerate(lines, 1)).encode()
        for name, lines in lists.items()
    }
    masks = {}
    for i, (name, _, _) in enumerate(BIRDS):
        files[f"CUB_200_2011/images/{name}.jpg"] = images[i]
        masks[f"segmentations/{name}.png"] = encoded(bird_mask(i), "PNG")
    tar(folder / "CUB_200_2011.tgz", files)
    tar(folder / "segmentations.tgz", masks)


# Stanford Dogs ------------------------------------------------------------------------------------

DOG_SIZE = (100, 80)
# Name, published split, boxes (xmin, ymin, xmax, ymax).
DOGS = (
    ("n02085620-Chihuahua/n02085620_10074", "train", [(30, 20, 70, 60)]),
    ("n02085620-Chihuahua/n02085620_10131", "test", [(0, 0, 20, 20), (40, 30, 100, 80)]),
    ("n02086240-Shih-Tzu/n02086240_1011", "train", [(10, 10, 90, 70)]),
    ("n02086240-Shih-Tzu/n02086240_1059", "test", [(50, 40, 60, 50)]),
)


def dog_images():
    return [encoded(picture(*DOG_SIZE, seed), "JPEG") for seed in range(len(DOGS))]


def write_dogs(folder):
    """``images.tar``, ``lists.tar`` and ``annotation.tar``."""
    tar(
        folder / "images.tar",
        {f"Images/{name}.jpg": data for (name, _, _), data in zip(DOGS, dog_images(), strict=True)},
        "w",
    )
    everything = [f"{name}.jpg" for name, _, _ in DOGS]
    chosen = {
        split: [f"{name}.jpg" for name, s, _ in DOGS if s == split] for split in ("train", "test")
    }
    # The builder wants all 120 breeds in the list, but not a picture of each.
    chosen["train"] += [f"n{i:08d}-Breed/n{i:08d}_1.jpg" for i in range(118)]
    lists = {
        "file_list.mat": matlab(file_list=cells(everything)),
        "train_list.mat": matlab(file_list=cells(chosen["train"])),
        "test_list.mat": matlab(file_list=cells(chosen["test"])),
    }
    tar(folder / "lists.tar", lists, "w")
    annotations = {}
    for name, _, boxes in DOGS:
        objects = "".join(
            f"<object><name>dog</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for x0, y0, x1, y1 in boxes
        )
        size = "<size><width>{}</width><height>{}</height><depth>3</depth></size>".format(*DOG_SIZE)
        annotations[f"Annotation/{name}"] = f"<annotation>{size}{objects}</annotation>".encode()
    tar(folder / "annotation.tar", annotations, "w")


def cells(strings):
    """A MATLAB cell array of strings, [N, 1]."""
    array = np.empty((len(strings), 1), object)
    array[:, 0] = strings
    return array


def matlab(**variables):
    """The bytes of a MATLAB file."""
    from scipy import io as scipy_io

    file = io.BytesIO()
    scipy_io.savemat(file, variables)
    return file.getvalue()


# Stanford Cars ------------------------------------------------------------------------------------

CAR_SIZE = (120, 90)
# Box (x1, y1, x2, y2) of cars 00001 and 00002 of either split.
CARS = {
    "train": [(30, 20, 70, 60), (1, 1, 119, 89)],
    "test": [(60, 45, 100, 65), (0, 60, 40, 90)],
}


def car_images(split):
    seeds = range(10, 12) if split == "train" else range(20, 22)
    return [encoded(picture(*CAR_SIZE, seed), "JPEG") for seed in seeds]


def car_annotations(split):
    fields = [(f"bbox_{side}", object) for side in ("x1", "y1", "x2", "y2")]
    rows = np.empty((1, 2), [*fields, ("class", object), ("fname", object)])
    for i, box in enumerate(CARS[split]):
        rows[0, i] = (*box, i + 1, f"{i + 1:05d}.jpg")
    return matlab(annotations=rows)


def write_cars(folder):
    """The three archives and the labels of the test set."""
    for split in CARS:
        files = {f"cars_{split}/{i:05d}.jpg": d for i, d in enumerate(car_images(split), 1)}
        tar(folder / f"cars_{split}.tgz", files)
    tar(folder / "car_devkit.tgz", {"devkit/cars_train_annos.mat": car_annotations("train")})
    (folder / "cars_test_annos_withlabels.mat").write_bytes(car_annotations("test"))


# Oxford-IIIT Pet ----------------------------------------------------------------------------------

PETS = {"train": ["Abyssinian_1", "beagle_116"], "test": ["Abyssinian_2"]}
PET_SIZE = (90, 60)


def pet_trimap():
    """Foreground in a block, around it a band, around that background: uint8 [60, 90]."""
    trimap = np.full(PET_SIZE[::-1], 2, np.uint8)
    trimap[9:51, 24:66] = 3
    trimap[12:48, 27:63] = 1
    return trimap


def pet_image(name):
    return encoded(picture(*PET_SIZE, sum(name.encode())), "JPEG")


def write_pets(folder):
    """``images.tar.gz`` and ``annotations.tar.gz``, which are not compressed."""
    names = [name for split in PETS.values() for name in split]
    images = {f"images/{name}.jpg": pet_image(name) for name in names}
    tar(folder / "images.tar.gz", images, "w")
    lists = {
        "trainval.txt": "".join(f"{name} 1 1 1\n" for name in PETS["train"]).encode(),
        "test.txt": "".join(f"{name} 1 1 1\n" for name in PETS["test"]).encode(),
    }
    trimaps = {f"trimaps/{name}.png": encoded(pet_trimap(), "PNG") for name in names}
    files = {f"annotations/{name}": data for name, data in {**lists, **trimaps}.items()}
    tar(folder / "annotations.tar.gz", files, "w")
