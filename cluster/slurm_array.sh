#!/bin/bash
# A sweep in a Slurm array, without a cluster: each element is a driver of its own on the one store, and does a share.
#
# Run here with several elements at once; not under a real Slurm.
#
#   sbatch --array=0-31 cluster/slurm_array.sh fig1 --out /shared/out
#
# What follows the script's name are arguments of `lfombench run`; --out must be a folder that all nodes share, or
# s3://bucket/prefix. An element that is preempted is queued again, and others take over its share meanwhile.
#SBATCH --job-name=lfombench
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: sbatch --array=0-N slurm_array.sh SWEEP --out FOLDER [options of run]" >&2; exit 2; }
export RAY_AUTH_MODE=disabled RAY_USAGE_STATS_ENABLED=0 # Ray is started and ended by each driver, for itself
lfombench run "$@" --join &
run=$!
again=no
# Slurm says when it is about to end the job: what runs stops where it can go on, or at once after a minute.
# shellcheck disable=SC2317 # called by the trap
ending() {
  kill -TERM "$run"
  sleep "${PATIENCE:-60}"
  kill -TERM "$run"
}
trap 'again=yes; ending 2>/dev/null &' TERM
code=0
wait "$run" || code=$?
if [ $again = yes ]; then
  wait "$run" && code=0 || code=$?
  [ $code -eq 0 ] || scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit $code
