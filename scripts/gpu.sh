#!/bin/sh
# Builds and runs the GPU tests and benchmarks on a machine with an NVIDIA GPU, nvcc, cmake and a C++ compiler; needs no Node.
#   scripts/gpu.sh              all GPU tests, then the benchmarks of decode, prefill and attention
#   scripts/gpu.sh PROGRAM …    those programs alone, such as cuda_ops or cuda_bench_decode
#   scripts/gpu.sh --check …    tests at small sizes under compute-sanitizer, for errors of memory and for races
# Code is compiled for the GPU that is there. Exits with 1 when a program fails; runs the others all the same.
set -u
cd "$(dirname "$0")/.." || exit 1
tests="cuda_ops cuda_attention cuda_decode cuda_attend cuda_prefill cuda_select cuda_model cuda_narrow cuda_nsa_decode cuda_nsa_prefill"
benches="cuda_bench_decode cuda_bench_mini cuda_bench_prefill cuda_bench_attention"
PATH=$PATH:/usr/local/cuda/bin
if [ "${1:-}" = --check ]; then
  shift
  build=build/gpu-check
  small=ON
  programs=${*:-$tests}
  command -v compute-sanitizer >/dev/null || { echo "gpu: compute-sanitizer not found (it comes with the CUDA toolkit)" >&2; exit 1; }
else
  build=build/gpu
  small=OFF
  programs=${*:-$tests cuda_long cuda_repeat $benches}
fi
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
[ -n "$capability" ] || { echo "gpu: no NVIDIA GPU found (nvidia-smi reports none)" >&2; exit 1; }
[ "$capability" = 90 ] && capability=90a
mkdir -p build
cmake -S engine/native -B "$build" -DCUDA_ARCHITECTURES="$capability-real" -DSMALL_SHAPES="$small" >"$build.log" 2>&1 ||
  { tail -n 40 "$build.log" >&2; exit 1; }
# shellcheck disable=SC2086
cmake --build "$build" --parallel --target $programs >"$build.log" 2>&1 || { tail -n 40 "$build.log" >&2; exit 1; }
if [ "$small" = ON ]; then
  # Checkers keep the GPU waiting for the CPU, so several run beside each other. Errors of calls are not reported:
  # tests ask for more memory than there is, and look at the error.
  jobs=$(($(nproc) < 4 ? 2 : $(nproc) / 2))
  for tool in racecheck memcheck; do
    for program in $programs; do echo "$tool $program"; done
  done | BUILD=$build xargs -P "$jobs" -n 2 sh -c '
    log=$BUILD/$0-$1.log
    [ "$0" = racecheck ] || quiet="--report-api-errors no"
    compute-sanitizer --tool "$0" $quiet --error-exitcode 1 "$BUILD/$1" >"$log" 2>&1
    code=$?
    echo "== $0 $1: $(grep -E " passed,|SUMMARY" "$log" | tr "\n" " ")"
    [ "$code" -eq 0 ] || { tail -n 20 "$log" >&2; exit 1; }' || exit 1
  exit 0
fi
status=0
for program in $programs; do
  echo "== $program"
  "$build/$program" || status=1
done
exit $status
