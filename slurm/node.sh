#!/usr/bin/env bash
# One node: starts its ranks with torch.distributed.run.  RANKS COMMAND...
# The static rendezvous keeps ranks in the order of the nodes; c10d would number them as they come.
set -eu
trap '' USR1 # for the ranks: the launcher would die of it
ranks=$1
shift
cpus=${SLURM_CPUS_PER_TASK:-$(nproc)}
address=${MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}
port=${MASTER_PORT:-$((20000 + (SLURM_JOB_ID * 8 + SLURM_STEP_ID) % 10000))}
# torchrun would give each rank a single thread
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cpus > ranks ? cpus / ranks : 1))}"
if [ -n "${HEADRACE_RANKS:-}" ] && [ "$SLURM_NODEID" -ne 0 ]; then
    # what the launcher says of the ranks of this node, which have logs of their own
    exec > "$HEADRACE_RANKS/node-$SLURM_NODEID.log" 2>&1
fi
exec python -m torch.distributed.run --nnodes="$SLURM_STEP_NUM_NODES" --node_rank="$SLURM_NODEID" \
    --nproc_per_node="$ranks" --master_addr="$address" --master_port="$port" --max_restarts=0 \
    --no_python bash slurm/rank.sh "$@"
