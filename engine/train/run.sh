#!/usr/bin/env bash
# A training, or one part of it, on every GPU of this machine, within a given time from start to model file.
#   run.sh PACKS WORK SECONDS [FROM TO [MODEL.gguf|CHECKPOINT.pt]]
# PACKS: folder with pack-*.jsonl.xz (corpus/collect.py), and tokenizer.json when there is one already.
# WORK: everything that is made; the model file is WORK/result.gguf, the log WORK/run.log.
# FROM, TO: which part of the schedule this is, 0 to 1 when missing. A part that ends at 1 closes with LONG_SECONDS (60)
# at 16K tokens. MODEL.gguf: result of the part before. GPUS=1 takes one GPU; a leg that fails on several is tried on one.
# Nothing but the packs and the model file passes between parts, so each may run on another machine. On the same one
# the checkpoint (WORK/plain.pt of the part before, another WORK) may stand in its place: it has the optimisers' state.
set -euo pipefail
packs=$1 work=$2 seconds=$3 from=${4:-0} to=${5:-1} model=${6:-}
cd "$(dirname "$0")"
mkdir -p "$work"
gpus=${GPUS:-$(nvidia-smi --list-gpus | wc -l)} long=${LONG_SECONDS:-60} cores=$(nproc)
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=4 TRITON_CACHE_AUTOTUNING=1 TORCHINDUCTOR_COMPILE_THREADS=8 MASTER_ADDR=127.0.0.1 GLOO_SOCKET_IFNAME=lo NCCL_SOCKET_IFNAME=lo
exec >>"$work/run.log" 2>&1
echo $(($(date +%s) + seconds - 15)) >"$work/deadline" # saving takes a few seconds

on_gpus() { # COUNT PORT ARGUMENTS…: one leg, a process for each GPU; all end when one fails
  local count=$1 port=$2 ranks=() status=0 workers=$((cores / $1 - 4)); shift 2
  for ((rank = 0; rank < count; rank++)); do
    RANK=$rank WORLD_SIZE=$count MASTER_PORT=$port python3 train.py --data "$work" --out "$work" \
      --deadline "$work/deadline" --workers $((workers > 4 ? workers : 4)) --seed "$seed" "$@" &
    ranks+=($!)
  done
  # GPUs that cannot reach each other wait for ever instead of failing; a leg's first line comes within two minutes.
  [ "$count" -eq 1 ] || (sleep 270; [ -s "$work/plain.jsonl" ] || kill "${ranks[@]}") &
  for _ in "${ranks[@]}"; do wait -n "${ranks[@]}" 2>/dev/null || { status=1; kill "${ranks[@]}" 2>/dev/null || true; }; done
  echo "== leg on $count GPUs ended with $status"
  return $status
}

leg() { # PORT LENGTH ROWS ALONE ARGUMENTS…: ROWS of a step on each of several GPUs, ALONE on a single one
  local port=$1 length=$2 rows=$3 alone=$4; shift 4
  { [ "$gpus" -gt 1 ] && on_gpus "$gpus" "$port" --length "$length" --rows "$rows" "$@"; } ||
    on_gpus 1 $((port + 1)) --length "$length" --rows "$alone" "$@"
}

resume=() seed=1
round=$(python3 -c "print($from + 0.6 * ($to - $from))") # what is handed on is rounded
if [ -n "$model" ]; then
  seed=2 round=0
  [[ $model == *.pt ]] && cp "$model" "$work/before.pt" || python3 export.py unpack "$model" "$work/before.pt"
  resume=(--resume "$work/before.pt")
fi
[ -f "$packs/tokenizer.json" ] && cp "$packs/tokenizer.json" "$work/"
python3 prepare.py --packs "$packs" --out "$work" &
if [ "$to" != 1 ]; then
  leg 29500 4096 16 32 --name plain --from "$from" --to "$to" --round-from "$round" "${resume[@]}"
  mv "$work/plain.gguf" "$work/result.gguf"
else
  # The leg at 16K compiles while the other one trains, and goes on from its checkpoint.
  (until [ -s "$work/plain.jsonl" ]; do sleep 1; done
    leg 29510 16384 4 4 --name long --from 0.9 --resume "$work/plain.pt" --round-from 0 --yarn 4 --context-share 0.5) &
  second=$!
  leg 29500 4096 16 32 --name plain --from "$from" --to 0.9 --round-from "$round" --spare "$long" "${resume[@]}"
  cp "$work/plain.gguf" "$work/result.gguf" # the result if the leg at 16K fails
  wait $second && mv "$work/long.gguf" "$work/result.gguf"
fi
echo "== done"
