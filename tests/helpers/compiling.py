"""XLA's flags for the tests, read before JAX starts: most of the suite's time is compiling."""

import importlib.metadata

EIGHT_DEVICES = "--xla_force_host_platform_device_count=8"

FEW_OPTIMIZATIONS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
# The older way to make code of fused operations takes half the time. Later JAX has no other, and
# ends at once on flags that it does not know.
if importlib.metadata.version("jax").startswith("0.10."):
    FEW_OPTIMIZATIONS += " --xla_cpu_use_fusion_emitters=false"
