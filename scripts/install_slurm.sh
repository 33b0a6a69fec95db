#!/usr/bin/env bash
# Installs what slurm/cluster.py and tests/slurm need, on Debian and Ubuntu, as root: SLURM, munge,
# iproute2, and shellcheck for the batch scripts.  Nothing is started: the tests start a SLURM of
# their own.  With --with-pdsh also pdsh and sshd, for the test of DeepSpeed's launcher over ssh.
set -euo pipefail
commands=(slurmctld slurmd sbatch munged ip shellcheck)
packages=(slurm-wlm munge iproute2 util-linux shellcheck)
if [ "${1:-}" = --with-pdsh ]; then
    commands+=(pdsh sshd)
    packages+=(pdsh openssh-server)
fi
missing=()
for name in "${commands[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "$name" > /dev/null || missing+=("$name")
done
if [ "${#missing[@]}" = 0 ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "${missing[*]}: not here, and only root can install them, with apt-get" >&2
    exit 1
fi
# The packages would start their daemons, which have no configuration.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    made=yes
fi
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${packages[@]}" > /dev/null
