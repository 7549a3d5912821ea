/* How long each kind of kernel took, for finding what is slow. */
#ifndef EK_CUDA_DEVICE_KERNEL_TIMES_H
#define EK_CUDA_DEVICE_KERNEL_TIMES_H
#include <cstdio>
#include <map>
#include <string>

#include "device.h"
#include "launch.h"

namespace ek::cuda {

class KernelTimes final : public LaunchListener {
 public:
  explicit KernelTimes(const Device& d) : device_(d) { mark(""); }
  ~KernelTimes() {
    for (const auto& [name, event] : marks_) cudaEventDestroy(event);
  }
  KernelTimes(const KernelTimes&) = delete;
  KernelTimes& operator=(const KernelTimes&) = delete;

  /* After a launch of `name`, whose time is that since the mark before. */
  void mark(const char* name) {
    cudaEvent_t event = nullptr;
    check(cudaEventCreate(&event), "creating an event");
    marks_.emplace_back(name, event);
    check(cudaEventRecord(event, device_.stream), "recording an event");
  }
  void launched(const char* name) override { mark(name); }
  /* Waits, and prints a line per name. */
  void print() const {
    struct Total {
      double us = 0;
      int n = 0;
    };
    std::map<std::string, Total> totals;
    device_.wait();
    for (size_t i = 1; i < marks_.size(); i++) {
      float ms = 0;
      check(cudaEventElapsedTime(&ms, marks_[i - 1].second, marks_[i].second), "reading the time");
      totals[marks_[i].first].us += static_cast<double>(ms) * 1000;
      totals[marks_[i].first].n++;
    }
    for (const auto& [name, total] : totals)
      std::printf("  %-14s %4d x %8.2f us = %9.1f us\n", name.c_str(), total.n, total.us / total.n, total.us);
  }

 private:
  const Device& device_;
  std::vector<std::pair<std::string, cudaEvent_t>> marks_;
};

}  // namespace ek::cuda
#endif
