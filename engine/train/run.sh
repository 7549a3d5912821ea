#!/usr/bin/env bash
# A training, or one part of it, on every GPU of this machine, within a given time from start to model file.
#   run.sh PACKS WORK SECONDS [FROM TO [MODEL.gguf]]
# PACKS: folder with pack-*.jsonl.xz (corpus/collect.py), and tokenizer.json when there is one already.
# WORK: everything that is made; the model file is WORK/result.gguf, the log WORK/run.log.
# FROM, TO: which part of the schedule this is, 0 to 1 when missing. A part that ends at 1 closes with LONG_SECONDS (60)
# at 16K tokens. MODEL.gguf: result of the part before. GPUS=1 takes one GPU; a leg that fails on several is tried on one.
# Nothing but the packs and the model file passes between parts, so each may run on another machine.
set -euo pipefail
packs=$1 work=$2 seconds=$3 from=${4:-0} to=${5:-1} model=${6:-}
cd "$(dirname "$0")"
mkdir -p "$work"
gpus=${GPUS:-$(nvidia-smi --list-gpus | wc -l)} long=${LONG_SECONDS:-60} cores=$(nproc)
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=4 MASTER_ADDR=127.0.0.1 GLOO_SOCKET_IFNAME=lo NCCL_SOCKET_IFNAME=lo
exec >>"$work/run.log" 2>&1
echo $(($(date +%s) + seconds - 15)) >"$work/deadline" # saving takes a few seconds

on_gpus() { # COUNT PORT ARGUMENTS…: one leg, a process for each GPU; all end when one fails
  local count=$1 port=$2 ranks=() status=0; shift 2
  for ((rank = 0; rank < count; rank++)); do
    RANK=$rank WORLD_SIZE=$count MASTER_PORT=$port python3 train.py --data "$work" --out "$work" \
      --deadline "$work/deadline" --workers $(((cores / count + 1) / 2)) "$@" &
    ranks+=($!)
  done
  for pid in "${ranks[@]}"; do wait "$pid" || { status=1; kill "${ranks[@]}" || true; }; done
  echo "== leg on $count GPUs ended with $status"
  return $status
}

leg() { # PORT TOKENS LENGTH ARGUMENTS…: TOKENS of a step over all GPUs
  local port=$1 tokens=$2 length=$3; shift 3
  on_gpus "$gpus" "$port" --length "$length" --rows $((tokens / length / gpus)) "$@" ||
    { [ "$gpus" -gt 1 ] && on_gpus 1 $((port + 1)) --length "$length" --rows $((tokens / length)) "$@"; }
}

resume=()
round=$(python3 -c "print($from + 0.6 * ($to - $from))") # what is handed on is rounded
if [ -n "$model" ]; then
  python3 export.py unpack "$model" "$work/before.pt"
  resume=(--resume "$work/before.pt") round=0
fi
[ -f "$packs/tokenizer.json" ] && cp "$packs/tokenizer.json" "$work/"
python3 prepare.py --packs "$packs" --out "$work" &
if [ "$to" != 1 ]; then
  leg 29500 131072 4096 --name plain --from "$from" --to "$to" --round-from "$round" "${resume[@]}"
  mv "$work/plain.gguf" "$work/result.gguf"
else
  # The leg at 16K compiles while the other one trains, and goes on from its checkpoint.
  (until [ -s "$work/plain.jsonl" ]; do sleep 1; done
    leg 29510 65536 16384 --name long --from 0.9 --resume "$work/plain.pt" --round-from 0 --yarn 4 --context-share 0.5) &
  second=$!
  leg 29500 131072 4096 --name plain --from "$from" --to 0.9 --round-from "$round" --spare "$long" "${resume[@]}"
  wait $second && mv "$work/long.gguf" "$work/result.gguf" || cp "$work/plain.gguf" "$work/result.gguf"
fi
echo "== done"
