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
status=0
run() {
  echo "== $*"
  "$@" || status=1
}
for program in $programs; do
  if [ "$small" = OFF ]; then
    run "$build/$program"
    continue
  fi
  for tool in memcheck racecheck; do
    run compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/$program"
  done
done
exit $status
