"""Two processes find each other and add up their numbers."""

import os

import jax

processes, own = (int(os.environ[f"JAX_{name}"]) for name in ("NUM_PROCESSES", "PROCESS_ID"))
jax.distributed.initialize(num_processes=processes, process_id=own)
assert jax.process_count() == 2, jax.process_count()

# Only now: it looks for devices when it is imported.
from jax.experimental import multihost_utils  # noqa: E402

total = multihost_utils.process_allgather(jax.numpy.array([jax.process_index() + 1.0]))
assert float(total.sum()) == 3.0
print("summed over", jax.process_count(), flush=True)
