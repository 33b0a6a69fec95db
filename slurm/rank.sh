#!/usr/bin/env bash
# One rank: runs a command.  In a job, HEADRACE_RANKS is a folder in which ranks leave
#   N.log   what rank N prints; rank 0 alone prints into the log of the job
#   N.exit  an exit code that is not 0, since launchers report that of another rank, or 1; and the
#           host.  Of a stop (75), on which all agree, one is enough.
# USR1 goes to every process of a step: whoever does not listen for it must not die of it.
set -u
trap '' USR1
trap : TERM # the command gets it too, and may save
export PYTHONUNBUFFERED=${PYTHONUNBUFFERED-1} # what is printed before a kill is in the log
rank=${RANK:-${SLURM_PROCID:-0}}
place="rank $rank on $(hostname)"
if [ -n "${HEADRACE_RANKS:-}" ] && [ "$rank" -ne 0 ]; then
    log=$HEADRACE_RANKS/$rank.log
    if echo "=== $place" > "$log"; then # a full disk: the log of the job has to do
        exec >> "$log" 2>&1
    fi
fi
if [ -n "${HEADRACE_LOCAL_SCRATCH:-}" ]; then
    TORCH_EXTENSIONS_DIR=$(python -m headrace.slurm.staging "$HEADRACE_LOCAL_SCRATCH") || exit 1
    export TORCH_EXTENSIONS_DIR
fi
code=0
"$@" || code=$?
if [ "$code" -ne 0 ] && [ -n "${HEADRACE_RANKS:-}" ]; then
    if [ "$code" -ne 75 ] || [ "$rank" -eq 0 ]; then
        echo "$code $(hostname)" > "$HEADRACE_RANKS/$rank.exit"
    fi
    if [ "$code" -ne 75 ]; then
        echo "$place: exit code $code" >&2
    fi
fi
exit "$code"
