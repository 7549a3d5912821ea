/* Threads that share the items of one loop. Idle threads spin for some 50 us,
 * then sleep. */
#ifndef EK_CPU_THREAD_POOL_H
#define EK_CPU_THREAD_POOL_H
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace ek::cpu {

class ThreadPool {
 public:
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const { return static_cast<int>(threads_.size()) + 1; }
  /* Calls body(item, thread) for every item in [0, n_items), on the calling
   * thread and the others; then returns. body must not throw: nobody could
   * catch it. */
  template <class Body>
  void run(int n_items, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run_loop(
        n_items, [](const void* b, int item, int thread) { (*static_cast<const Plain*>(b))(item, thread); },
        &body);
  }

 private:
  using Call = void (*)(const void* body, int item, int thread);
  void run_loop(int n_items, Call call, const void* body);
  void work(int thread);
  void take_items(int thread);

  std::vector<std::thread> threads_;
  Call call_ = nullptr;
  const void* body_ = nullptr;
  int n_items_ = 0;
  /* What waiting threads read and what working threads write lie on different
   * cache lines. */
  alignas(64) std::atomic<uint64_t> open_{0}; /* number of the loop that may be joined; 0: none */
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<int> next_{0};
  alignas(64) std::atomic<int> active_{0};
  std::atomic<int> sleeping_{0};
  uint64_t last_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace ek::cpu
#endif
