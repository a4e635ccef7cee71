"""Several devices and several processes do what one does."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FEW_OPTIMIZATIONS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def test_on_eight_devices():
    """How many CPU devices there are is settled when JAX starts, so this is another process."""
    flags = f"--xla_force_host_platform_device_count=8 {FEW_OPTIMIZATIONS}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/eight_devices.py"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags},
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
