"""Shared fixtures. Promotion is strict: a silent float64 or a rank broadcast is a bug."""

import contextlib
import gc
import os
import pathlib
import resource
import tempfile
from collections.abc import Callable, Iterator

from tests.helpers.compiling import EIGHT_DEVICES, FEW_OPTIMIZATIONS

# Eight devices, as tests of sharing need; all others take the first.
os.environ.setdefault("XLA_FLAGS", f"{EIGHT_DEVICES} {FEW_OPTIMIZATIONS}")

# What one program or worker has compiled, however fast, the others take; pytest's workers and all
# programs that tests start inherit the name.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="drc_jax_tests_", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import pytest
from jaxtyping import config as shape_checks
from jaxtyping import install_import_hook

# The shapes that these rooms' signatures state are checked at every call.
install_import_hook(
    [
        *("drc_jax.ops", "drc_jax.model"),
        *("drc_jax.langevin", "drc_jax.inference"),
    ],
    "beartype.beartype",
)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder with the parity fixture and the photographs, which is no part of the project."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: parity fixtures and photographs are not in this checkout")
    return SHARED


@pytest.fixture
def file_size_limit() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """A full disk without one: in ``with file_size_limit(bytes):`` no file grows beyond that."""

    @contextlib.contextmanager
    def limited(largest: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture
def as_users_call() -> Iterator[None]:
    """Without the checks of shapes, for tests of what users are told who have no such checks."""
    shape_checks.update("jaxtyping_disable", True)
    yield
    shape_checks.update("jaxtyping_disable", False)


# Files that take minutes: first, so that no worker is left with one of them at the end, and left
# out of `make test-fast`.
LONG = (
    "test_page.py",
    "test_processes.py",
    "test_devices.py",
    "test_notebooks.py",
    "test_train_experiment.py",
    "test_redo.py",
    "test_programs.py",
    "test_recipes.py",
    "test_tutorial.py",
    "test_export.py",
    "test_faults.py",
    "test_slot_programs.py",
    "test_help.py",
    "test_compare_program.py",
    "test_photographs.py",
    "test_exactness.py",
    "test_parity.py",
    "test_file_runs.py",
    "test_readme.py",
    "test_ops.py",
    "test_train_step.py",
    "test_rounds.py",
    "test_torch_drc.py",
    "test_extract.py",
    "test_extract_run.py",
    "test_networks.py",
    "test_encoder.py",
    "test_slot_runs.py",
    "test_slot_training.py",
    "test_losses.py",
    "test_inference.py",
    "test_models.py",
    "test_slot_attention.py",
    "test_several_slots.py",
    "test_cli.py",
    "test_watch.py",
    "test_steps.py",
    "test_onnx.py",
    "test_prepare.py",
    "test_redo_networks.py",
    "test_iodine.py",
    "test_loop.py",
    "test_held_out.py",
    "test_frames.py",
    "test_actions.py",
    "test_entrants.py",
    "test_redo_losses.py",
    "test_langevin.py",
    "test_evaluate.py",
)


def pytest_collection_finish() -> None:
    """Tracing makes many objects; searching all of them for garbage now and then takes its time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in LONG:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
