# shellcheck shell=bash
# What every batch script begins with: the site's profile, modules, and a virtual environment.
set -euo pipefail
trap '' USR1 # until the program of the job listens
set -a
# shellcheck source=/dev/null
. "${HEADRACE_SITE:=slurm/sites/generic.env}"
set +a
set +u # the scripts behind these know nothing of it
if [ -n "${HEADRACE_MODULES:-}" ]; then
    module purge
    # shellcheck disable=SC2086 # several modules
    module load $HEADRACE_MODULES
fi
if [ -n "${HEADRACE_VENV:-}" ]; then
    # shellcheck source=/dev/null
    . "$HEADRACE_VENV/bin/activate"
fi
set -u
