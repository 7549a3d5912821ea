/* Threads that share the items of one loop. Idle threads spin for some 30 us, then sleep. */
#ifndef EK_CPU_THREAD_POOL_H
#define EK_CPU_THREAD_POOL_H
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace ek::cpu {

class ThreadPool {
 public:
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const { return static_cast<int>(threads_.size()) + 1; }
  /* Calls body(item, thread) for every item in [0, n_items), on the calling thread and the others; then
   * returns. body must not throw. */
  void run(int n_items, const std::function<void(int, int)>& body);

 private:
  void work(int thread);
  void take_items(int thread);

  std::vector<std::thread> threads_;
  const std::function<void(int, int)>* body_ = nullptr;
  int n_items_ = 0;
  std::atomic<int> next_{0}, active_{0}, sleeping_{0};
  std::atomic<uint64_t> open_{0}; /* number of the loop that may be joined; 0: none */
  uint64_t last_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<bool> stop_{false};
};

}  // namespace ek::cpu
#endif
