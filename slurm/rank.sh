#!/usr/bin/env bash
# One rank: runs a command, and leaves an exit code that is not 0 where the job looks for it, since
# launchers report that of another rank, or 1.  Of a stop (75), on which all agree, one is enough.
# USR1 goes to every process of a step: whoever does not listen for it must not die of it.
set -u
trap '' USR1
trap : TERM # the command gets it too, and may save
code=0
"$@" || code=$?
rank=${RANK:-${SLURM_PROCID:-0}}
if [ "$code" -ne 0 ] && [ -n "${HEADRACE_EXITS:-}" ]; then
    if [ "$code" -ne 75 ] || [ "$rank" -eq 0 ]; then
        echo "$code" > "$HEADRACE_EXITS/$rank"
    fi
    if [ "$code" -ne 75 ]; then
        echo "rank $rank on $(hostname): exit code $code" >&2
    fi
fi
exit "$code"
