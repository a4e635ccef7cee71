"""Several devices and several processes do what one does."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from drc_jax.config import TrainConfig
from drc_jax.data.packed.datasets import Record, write_split
from drc_jax.errors import UserError
from drc_jax.runs import checkpoint
from drc_jax.runs.workdir import load_config
from drc_jax.runtime import processes
from drc_jax.training.step import init_state
from tests.helpers.compiling import FEW_OPTIMIZATIONS

ROOT = pathlib.Path(__file__).resolve().parents[2]


# Gets a signal in the third step, where the last argument names one.
TRAIN = """if True:
    import os, signal, sys, time
    from drc_jax.training import step as steps
    from experiments import cli, train

    step, done = steps.step, []
    def hooked(*args):
        done.append(0)
        if len(done) == 3:
            os.kill(os.getpid(), number)
            time.sleep(0.5)
        return step(*args)
    if number := int(sys.argv.pop()):
        steps.step = hooked
    cli.run(train.main)
"""


def start(arguments, cache, *, devices, signalled=0):
    flags = f"--xla_force_host_platform_device_count={devices} {FEW_OPTIMIZATIONS}"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, *arguments, str(int(signalled))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=env,
    )


def finish(children):
    """Exit status, stdout and stderr of every process, without a line that Gloo prints itself."""
    try:
        ends = [child.communicate(timeout=300) for child in children]
    finally:
        for child in children:
            child.kill()
    return [
        (child.returncode, re.sub(r"^\[Gloo\].*\n", "", out, flags=re.M), err)
        for child, (out, err) in zip(children, ends, strict=True)
    ]


def start_two(arguments, workdirs, cache, *, second_gets=0):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    return [
        start(
            [
                *arguments,
                f"--workdir={workdir}",
                f"--coordinator={address}",
                "--num_processes=2",
                f"--process_id={i}",
            ],
            cache,
            devices=1,
            signalled=second_gets if i == 1 else 0,
        )
        for i, workdir in enumerate(workdirs)
    ]


def test_two_processes_equal_one_and_resume(tmp_path):
    """Stopped by a signal to the second alone, resumed, killed there, resumed to the end."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (17, 8, 8, 3), np.uint8)
    records = [Record(image, None, str(i)) for i, image in enumerate(images)]
    write_split(tmp_path / "data", "train", records, image_size=8, has_masks=False, source={})
    arguments = [
        f"--config={ROOT / 'configs' / 'tiny.py'}",
        "--config.model.generator_channels=(4,4)",
        "--config.model.classifier_channels=(4,)",
        "--config.data.dataset=noise",
        f"--config.data.path={tmp_path / 'data'}",
        "--config.image_every=0",
        "--config.num_devices=2",
        "--config.images_at_once=1",
    ]
    one, two, unused = (tmp_path / name for name in ("one", "two", "unused"))
    caches = (tmp_path / "cache_one", tmp_path / "cache_two")
    single = start([*arguments, f"--workdir={one}"], caches[0], devices=2)
    ((status, out, err),) = finish([single])
    assert status == 0, err
    assert "the last 1 images are left out, so that devices have equal shares" in out

    stopped = finish(start_two(arguments, (two, unused), caches[1], second_gets=signal.SIGTERM))
    assert [status for status, _, _ in stopped] == [128 + signal.SIGTERM] * 2, stopped
    assert "SIGTERM: saved at step" in stopped[0][1] and stopped[1][1] == "", stopped
    (step, *_) = reversed(checkpoint.saved_steps(two))
    assert step in (3, 4)

    killed = finish(start_two(arguments, (two, unused), caches[1], second_gets=signal.SIGKILL))
    assert [status for status, _, _ in killed] == [2, -signal.SIGKILL], killed
    assert "error: " in killed[0][2] and "Traceback" not in killed[0][2], killed
    assert killed[0][2].endswith("started for all, resume from the newest checkpoint.\n")
    assert step <= checkpoint.saved_steps(two)[-1] < 8
    step = checkpoint.saved_steps(two)[-1]

    resumed = finish(start_two(arguments, (two, unused), caches[1]))
    assert [status for status, _, _ in resumed] == [0, 0], resumed
    assert f"resuming in {two} from step {step} to 8 on 2 devices, cpu, in 2" in resumed[0][1]
    assert resumed[1][1] == ""
    assert not unused.exists()

    like = jax.eval_shape(lambda: init_state(load_config(one, TrainConfig), 16))
    (step, found), (_, expected) = (checkpoint.restore_state(w, like) for w in (two, one))
    assert step == 8
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    logs = [sorted(p.name for p in (w / "images").iterdir()) for w in (one, two)]
    assert logs[0] == logs[1] == ["step_0000008.png"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("localhost", 2, 0), "HOST:PORT of process 0, got localhost"),
        ((None, 2, 0), "HOST:PORT of process 0, got None"),
        (("localhost:1", 2, 2), r"must lie in \[0, 2\), the --num_processes, got 2"),
    ],
)
def test_processes_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        processes.join(*arguments)
