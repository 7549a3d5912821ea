#include "emulator.h"

#include <execinfo.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

#include "worker.h"

namespace emulation {

void fail(const char* pattern, ...) {
  char text[1024];
  va_list args;
  va_start(args, pattern);
  std::vsnprintf(text, sizeof text, pattern, args);
  va_end(args);
  std::fflush(stdout);
  /* The stack may be the one of signals. */
  const Here at = worker == nullptr ? Here{} : worker->place();
  std::fprintf(stderr, "emulated GPU: block (%u, %u, %u) of (%u, %u, %u), thread %u: %s\n", at.block.x,
               at.block.y, at.block.z, gridDim.x, gridDim.y, gridDim.z, at.thread.x, text);
  void* frames[16];
  backtrace_symbols_fd(frames, backtrace(frames, 16), STDERR_FILENO);
  std::abort();
}

namespace {

/* A grid that is being run. */
struct Job {
  const GridShape* shape;
  const std::function<void()>* body;
  unsigned turn;
  uint64_t n_blocks;
  std::atomic<uint64_t> next{0};

  void run(Worker& by) {
    for (uint64_t i = next++; i < n_blocks; i = next++) {
      const uint3& grid = shape->grid;
      const uint3 block{static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                        static_cast<unsigned>(i / grid.x / grid.y)};
      by.run_block(*shape, block, *body, turn);
    }
  }
};

void on_bad_access(int) { fail("access outside of memory"); }

/* The workers have stacks for it. */
void catch_bad_accesses() {
  struct sigaction action {};
  action.sa_handler = on_bad_access;
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

/* The caller's thread and one more per further CPU. */
class Pool {
 public:
  Pool() {
    catch_bad_accesses();
    const unsigned n = std::max(1u, std::min(8u, std::thread::hardware_concurrency()));
    for (unsigned i = 1; i < n; i++) threads_.emplace_back([this] { serve(); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

  void run(Job& job) {
    const std::lock_guard one_at_a_time(running_);
    if (job.n_blocks == 1) return job.run(own_);
    {
      const std::lock_guard lock(mutex_);
      job_ = &job;
      serial_++;
    }
    changed_.notify_all();
    job.run(own_);
    std::unique_lock lock(mutex_);
    job_ = nullptr;
    changed_.wait(lock, [&] { return busy_ == 0; });
  }

 private:
  void serve() {
    Worker own;
    uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return ends_ || (job_ != nullptr && serial_ != seen); });
      if (ends_) return;
      seen = serial_;
      Job& job = *job_;
      busy_++;
      lock.unlock();
      job.run(own);
      lock.lock();
      busy_--;
      changed_.notify_all();
    }
  }

  Worker own_;
  std::mutex running_, mutex_;
  std::condition_variable changed_;
  Job* job_ = nullptr;
  uint64_t serial_ = 0;
  int busy_ = 0;
  bool ends_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

void run_grid(const GridShape& shape, const std::function<void()>& body) {
  static Pool pool;
  static std::atomic<unsigned> n_launches{0};
  Job job{&shape, &body, n_launches++, uint64_t{shape.grid.x} * shape.grid.y * shape.grid.z, {}};
  pool.run(job);
}

void* dynamic_shared() { return here().worker->dynamic_shared(); }
void sync_block(const Site& site) { here().worker->sync_block(site); }
void sync_some(const Site& site, int number, int n) { here().worker->sync_some(site, number, n); }
const Exchange& exchange(const Site& site, const uint32_t* words, int n, void (*finish)(Exchange&)) {
  return here().worker->exchange(site, words, n, finish);
}
void require_shared_16(const void* p) {
  if (reinterpret_cast<uintptr_t>(p) % 16 != 0) fail("an address of shared memory is no multiple of 16");
  if (!here().worker->is_shared(p, 16)) fail("an address is outside of shared memory");
}

void copy_later(void* to, const void* from, bool valid) {
  require_shared_16(to);
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0) fail("the source of a copy is no multiple of 16");
  Fiber& f = here().worker->current();
  f.copies.push_back({to, from, valid, f.group});
}

void end_copy_group() { here().worker->current().group++; }

void wait_for_copies(int most_groups_left) {
  Fiber& f = here().worker->current();
  const int last = f.group - most_groups_left;
  size_t done = 0;
  for (; done < f.copies.size() && f.copies[done].group < last; done++) {
    const Copy& c = f.copies[done];
    if (c.valid) {
      std::memcpy(c.to, c.from, 16);
    } else {
      std::memset(c.to, 0, 16);
    }
  }
  f.copies.erase(f.copies.begin(), f.copies.begin() + static_cast<ptrdiff_t>(done));
}

}  // namespace emulation
