#!/usr/bin/env bash
# One rank of a build: Dask workers, one for each CPU of the rank.  Rank 0 also has the scheduler and
# the command itself, which is told where the scheduler is.
#   bash slurm/dask_rank.sh CORPUS COMMAND...
set -euo pipefail
folder=$1/slurm
shift
rank=${RANK:-${SLURM_PROCID:-0}}
file=$folder/scheduler-${SLURM_JOB_ID:-0}-${SLURM_RESTART_COUNT:-0}.json
# nproc would answer with OMP_NUM_THREADS
cpus=${SLURM_CPUS_PER_TASK:-$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)}
workers() {
    # documents are examined in processes of their own, which have limits of their own
    python -m distributed.cli.dask_worker --scheduler-file "$file" --nworkers "$cpus" \
        --nthreads 1 --memory-limit 0 --no-dashboard --death-timeout 600 \
        --local-directory "${TMPDIR:-/tmp}" > /dev/null 2>&1
}
export OMP_NUM_THREADS=1
if [ "$rank" -ne 0 ]; then
    workers || true # it ends when the scheduler does
    exit 0
fi
mkdir -p "$folder"
python -m distributed.cli.dask_scheduler --scheduler-file "$file" --port 0 \
    --dashboard-address :0 > /dev/null 2>&1 &
scheduler=$!
workers &
trap 'kill "$scheduler" 2> /dev/null || true; rm -f "$file"' EXIT
code=0
"$@" --scheduler "$file" || code=$?
exit "$code"
