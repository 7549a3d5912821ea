/* The emulated GPU finds what it promises to find (emulator.h): each faulty kernel ends its own process. */
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "../../cuda/device/launch.h"
#include "../../cuda/device/memory.h"
#include "../../cuda/device/ptx.cuh"
#include "../../cuda/device/streams.h"
#include "../cuda_check.h"

using namespace ek::cuda;
using ek::test::check;

namespace {

constexpr int kThreads = 96;

__global__ void neighbours_kernel(float* out, bool waits) {
  float* shared = dynamic_shared<float>();
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (waits) __syncthreads();
  out[threadIdx.x] = shared[(threadIdx.x + 48) % kThreads];
}

__global__ void two_barriers_kernel() {
  if (threadIdx.x < 48) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void early_exit_kernel(float* out) {
  if (threadIdx.x >= 32) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void absent_lane_kernel(float* out) {
  if (threadIdx.x % 32 == 5) return;
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

__global__ void copy_kernel(float* out, const float* in, bool waits) {
  float* shared = dynamic_shared<float>();
  copy_async_16(shared + threadIdx.x * 4, in + threadIdx.x * 4, true);
  copy_async_commit();
  if (waits) copy_async_wait<0>();
  out[threadIdx.x] = shared[threadIdx.x * 4];
}

__global__ void store_at_kernel(float* out, int shared_at, int device_at) {
  dynamic_shared<float>()[shared_at] = 1;
  out[device_at] = 1;
}

/* Sums 16 x 16 ones: every element of the product is 16 and grows the sums that were there. */
__global__ void product_kernel(float* out) {
  constexpr uint32_t kOnes = 0x3f803f80u;
  float c[4] = {1, 2, 3, 4};
  mma_bf16(c, kOnes, kOnes, kOnes, kOnes, kOnes, kOnes);
  for (int i = 0; i < 4; i++) out[threadIdx.x * 4 + i] = c[i];
}

__global__ void add_kernel(float* to, const float* from) { to[threadIdx.x] = from[threadIdx.x] + 1; }

/* out = in + 2 by two streams; whether that shows in two runs. */
bool adds_twice(float* out, float* between, const float* in, bool is_ordered, bool is_waited_for) {
  bool holds = true;
  const UrgentStream first, second;
  StreamEvent event;
  const auto add = [](cudaStream_t stream, float* to, const float* from) {
    launch(stream, "add", {1, kThreads}, add_kernel, to, from);
  };
  for (int i = 0; i < 2; i++) {
    for (int j = 0; j < kThreads; j++) out[j] = between[j] = NAN;
    add(first.get(), between, in);
    if (is_ordered) event.order(first.get(), second.get());
    add(second.get(), out, between);
    if (is_waited_for) cudaStreamSynchronize(second.get());
    holds = holds && out[5] == in[5] + 2;
  }
  return holds;
}

template <class Kernel, class... Args>
void run(Kernel kernel, size_t shared, Args... args) {
  launch(nullptr, "test", {1, kThreads, shared}, kernel, args...);
}

/* Whether body ends its process by a signal. */
template <class Body>
bool ends(Body&& body) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(0);
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status);
}

bool is_filled(const float* data, int n, float first, float step, int wraps_at) {
  for (int i = 0; i < n; i++) {
    if (!(data[i] == first + step * static_cast<float>((i + 48) % wraps_at))) return false;
  }
  return true;
}

}  // namespace

int main() {
  const DeviceMemory memory(kThreads * 4 * sizeof(float)), input(kThreads * 4 * sizeof(float));
  float *out = memory.as<float>(), *in = input.as<float>();
  for (int i = 0; i < kThreads * 4; i++) in[i] = 7;
  constexpr size_t kShared = kThreads * 4 * sizeof(float);
  bool always = true, without = true;
  for (int i = 0; i < 4; i++) {
    run(neighbours_kernel, kShared, out, true);
    always = always && is_filled(out, kThreads, 0, 1, kThreads);
    run(neighbours_kernel, kShared, out, false);
    without = without && is_filled(out, kThreads, 0, 1, kThreads);
  }
  check(always, "a barrier orders what warps write and read");
  check(!without, "a missing barrier shows within four launches");
  check(ends([] { run(two_barriers_kernel, 0); }), "threads at two barriers are found");
  check(!ends([&] { run(early_exit_kernel, 0, out); }), "a barrier of those that are left is allowed");
  check(ends([&] { run(absent_lane_kernel, 0, out); }), "a warp that waits for a lane that ended is found");
  run(copy_kernel, kShared, out, in, true);
  check(out[5] == 7, "a copy that was waited for has arrived");
  run(copy_kernel, kShared, out, in, false);
  check(std::isnan(out[5]), "a copy that nobody waited for has not");
  check(ends([&] { run(copy_kernel, kShared, out, in + 1, true); }), "a copy from an odd address is found");
  check(ends([&] { run(copy_kernel, kShared / 2, out, in, true); }), "a copy behind shared memory is found");
  check(ends([&] { run(store_at_kernel, 1024, out, 256, 0); }), "a store behind shared memory is found");
  check(ends([&] { run(store_at_kernel, 1024, out, 0, kThreads * 4 + 1024); }),
        "a store far behind memory is found");
  check(ends([] {
          DeviceMemory small(100);
          run(store_at_kernel, 1024, small.as<float>(), 0, 25);
        }),
        "a store just behind an allocation is found when it is freed");
  const DeviceMemory third(kThreads * sizeof(float));
  float* between = third.as<float>();
  check(adds_twice(out, between, in, true, true), "an event orders two streams");
  check(!adds_twice(out, between, in, false, true), "a missing event shows within two runs");
  check(!adds_twice(out, between, in, true, false), "what nobody waited for has not happened");
  run(product_kernel, 0, out);
  bool products = true;
  for (int i = 0; i < kThreads * 4; i++) products = products && out[i] == static_cast<float>(17 + i % 4);
  check(products, "a product of ones is 16, added to what was there");
  return ek::test::summary("emulator_test");
}
