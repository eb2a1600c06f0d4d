#!/bin/bash
# A Ray cluster in one Slurm allocation, and a sweep on it. Preempted or out of time, the job is queued again and goes on.
#
# Run here with stand-ins for srun and scontrol and real Ray; not under a real Slurm.
#
#   sbatch --nodes=4 --cpus-per-task=32 cluster/slurm.sh fig1 --out /shared/out
#
# What follows the script's name are arguments of `lfombench run`; --out must be a folder that all nodes share, or
# s3://bucket/prefix. GPUs: add --gpus-per-node=4. The environment in which lfombench is installed must be active.
#SBATCH --job-name=lfombench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: sbatch slurm.sh SWEEP --out FOLDER [options of lfombench run]" >&2; exit 2; }
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
port=$((20000 + SLURM_JOB_ID % 10000))
cpus=${SLURM_CPUS_PER_TASK:-1}
# Others of the machines could use this cluster otherwise: it asks every process for this job's token.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
# A node whose link is cut is noticed after seconds, not minutes.
export RAY_grpc_client_keepalive_time_ms=5000 RAY_grpc_client_keepalive_timeout_ms=5000

on() { # a command on one node, in the background; its name is resolved there
  srun --nodes=1 --ntasks=1 --overlap --nodelist="$1" "${@:2}" &
}
address=$(srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" hostname -I | awk '{print $1}')
# Ray's own folder, short as sockets need it and of this job alone.
folder=/tmp/ray-$SLURM_JOB_ID
on "$head" ray start --head --block --node-ip-address="$address" --port=$port --num-cpus="$cpus" \
  --temp-dir="$folder" --include-dashboard=false
started=$SECONDS
until (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; do
  [ $((SECONDS - started)) -lt 120 ] || { echo "Ray's head did not start on $head within 120 s" >&2; exit 1; }
  sleep 1
done
for node in "${nodes[@]:1}"; do
  on "$node" ray start --block --address="$address:$port" --num-cpus="$cpus"
done

srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" lfombench run "$@" --address "$address:$port" &
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
if [ $again = yes ]; then wait "$run" && code=0 || code=$?; fi
trap - TERM
if [ $again = yes ] && [ $code -ne 0 ]; then
  echo "stopped before its end: queued again"
  scontrol requeue "$SLURM_JOB_ID"
fi
mapfile -t left < <(jobs -p)
kill "${left[@]}" 2>/dev/null || true
wait || true
srun --ntasks="${#nodes[@]}" --ntasks-per-node=1 --overlap rm -rf "$folder"
exit $code
