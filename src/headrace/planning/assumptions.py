"""What a simulation of failures takes for granted until it is told otherwise."""

NODE_MTBF_HOURS = 6300.0
"""2,048 nodes of eight H100 had 419 unexpected interruptions in 54 days (The Llama 3 Herd of
Models, 2024, section 3.3.4): one every 6,334 hours of a node."""
DETECT_SECONDS = 300.0
"""SLURM's own ``SlurmdTimeout``: a node that does not answer for so long is down."""
REQUEUE_SECONDS = 120.0
"""A requeued job waits for SLURM's ``cred_expire``; the queue comes on top."""
START_SECONDS = 60.0
"""Imports, index, model and engine: an assumption, without the loading of the checkpoint."""
WORK_HOURS = 168.0
"""Training in all."""
DRAWS = 400
"""Lives of the job for each interval."""
SEED = 0
NODE_BANDWIDTH = 1e9
"""Bytes a second that a node writes to, or reads from, a shared file system: an assumption."""
STORAGE_BANDWIDTH = 20e9
"""Bytes a second that the file system takes and gives in all: an assumption."""
COPY_BANDWIDTH = 5e9
"""Bytes a second from a GPU to the memory of its node, without pinning: an assumption."""
