/* The device's own time of what is launched. */
#ifndef EK_CUDA_DEVICE_STOPWATCH_H
#define EK_CUDA_DEVICE_STOPWATCH_H
#include <cmath>

#include "device.h"

namespace ek::cuda {

struct Events {
  cudaEvent_t begin = nullptr, end = nullptr;
  Events() {
    check(cudaEventCreate(&begin), "creating an event");
    check(cudaEventCreate(&end), "creating an event");
  }
  ~Events() {
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;
};

/* Best milliseconds of `rounds` launches. */
template <class Launch>
float best_ms(Device& d, int rounds, Launch&& launch) {
  Events e;
  float best = INFINITY;
  for (int round = 0; round < rounds; round++) {
    check(cudaEventRecord(e.begin, d.stream), "recording an event");
    launch();
    check(cudaEventRecord(e.end, d.stream), "recording an event");
    check(cudaEventSynchronize(e.end), "waiting for the GPU");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, e.begin, e.end), "reading the time");
    best = std::fmin(best, ms);
  }
  return best;
}

}  // namespace ek::cuda
#endif
