#!/usr/bin/env bash
# A whole training on one GPU: prepare, legs, export, measurements. Started once; keeps going without its terminal.
#   run.sh PACKS WORK MINUTES [RESUME.npz]
# PACKS: folder with pack-*.jsonl.xz (corpus/collect.py). WORK: everything that is made, log in WORK/run.log.
# MINUTES: for all legs together. RESUME: 8-bit weights of an earlier run.
set -euo pipefail
packs=$1 work=$2 minutes=$3 resume=${4:-}
cd "$(dirname "$0")"
mkdir -p "$work"
export PYTHONUNBUFFERED=1
exec >>"$work/run.log" 2>&1

leg() { # NAME SHARE_OF_TIME ARGUMENTS…: one call of train.py
  local name=$1 seconds=$(($2 * minutes * 60 / 100)); shift 2
  echo "== $name: $seconds s"
  python3 train.py --data "$work" --out "$work" --seconds "$seconds" "$@"
  python3 export.py --checkpoint "$work/checkpoint.pt" --resume "$work/resume.npz"
}

python3 prepare.py --packs "$packs" --out "$work" &
if [ -n "$resume" ]; then
  python3 export.py --unpack "$resume" --checkpoint "$work/checkpoint.pt"
  set -- --resume
else
  set --
fi
leg plain 58 --from 0 --to 0.6 --decay-from 0.5 --rows 32 --lines 40 "$@"
leg rounded 32 --from 0.6 --to 0.92 --decay-from 0.5 --qat-from 0.6 --rows 32 --lines 100 --resume
leg long 10 --from 0.92 --to 1 --decay-from 0.5 --qat-from 0.9 --rows 8 --length 16384 --yarn 4 --lines 300 --resume
python3 export.py --checkpoint "$work/checkpoint.pt" --tokenizer "$work/tokenizer.json" --gguf "$work/tidepool-mini.gguf"
echo "== done"
