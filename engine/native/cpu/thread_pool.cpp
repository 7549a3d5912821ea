#include "thread_pool.h"

#include <chrono>

namespace ek::cpu {

namespace {

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) {
  for (int i = 1; i < n_threads; i++) threads_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::take_items(int thread) {
  for (int i = next_.fetch_add(1); i < n_items_; i = next_.fetch_add(1)) call_(body_, i, thread);
}

void ThreadPool::run_loop(int n_items, Call call, const void* body) {
  if (n_items <= 1 || threads_.empty()) {
    for (int i = 0; i < n_items; i++) call(body, i, 0);
    return;
  }
  call_ = call;
  body_ = body;
  n_items_ = n_items;
  next_ = 0;
  open_ = ++last_;
  if (sleeping_ > 0) {
    { const std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
  }
  take_items(0);
  open_ = 0; /* from here on nobody joins; whoever joined before is counted in
                active_ */
  while (active_ > 0) relax();
}

void ThreadPool::work(int thread) {
  uint64_t done = 0;
  while (!stop_) {
    const auto nothing_new = [&] {
      const uint64_t open = open_;
      return (open == 0 || open == done) && !stop_;
    };
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
    do {
      for (int i = 0; i < 16 && nothing_new(); i++) relax();
    } while (nothing_new() && std::chrono::steady_clock::now() < give_up);
    if (nothing_new()) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleeping_++;
      wake_.wait(lock, [&] { return !nothing_new(); });
      sleeping_--;
      if (stop_) return;
    }
    active_++;
    const uint64_t joined = open_;
    if (joined != 0) {
      take_items(thread);
      done = joined;
    }
    active_--;
  }
}

}  // namespace ek::cpu
