/* One thread of the CPU that runs blocks, and the state of the block that it runs. */
#ifndef EK_TESTS_EMULATION_WORKER_H
#define EK_TESTS_EMULATION_WORKER_H
#include <memory>
#include <vector>

#include "emulator.h"

namespace emulation {

constexpr int kOwnBarriers = 16;
constexpr size_t kMostShared = 232448;

/* What runs blocks on this thread of the CPU. */
extern __thread Worker* worker;

/* kReady: or in an operation of its warp. */
enum class State : uint8_t { kReady, kAtBarrier, kAtOwnBarrier, kDone };

struct Copy {
  void* to;
  const void* from;
  bool valid;
  int group;
};

struct Fiber {
  void* stack;
  State state;
  Site site;
  int barrier;         /* where it waits, of some threads */
  uint32_t operations; /* of the warp, so far */
  int group;           /* of copies, so far */
  std::vector<Copy> copies;
};

struct Warp {
  int lanes, arrived;
  uint32_t ready;       /* a bit per lane */
  Site site;            /* of the operation that some of them wait in */
  Exchange exchange[2]; /* a lane may be one operation ahead of the slowest */
};

struct Range {
  uint8_t* begin;
  size_t n_bytes;
};

class Worker {
 public:
  Worker();
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /* turn: decides the order of warps and lanes. */
  void run_block(const GridShape& shape, uint3 block, const std::function<void()>& body, unsigned turn);

  void sync_block(const Site& site);
  void sync_some(const Site& site, int number, int n);
  const Exchange& exchange(const Site& site, const uint32_t* words, int n, void (*finish)(Exchange&));
  Fiber& current() { return fibers_[static_cast<size_t>(current_)]; }
  /* Of the thread that runs. */
  const Here& place() const { return *here_; }
  uint8_t* dynamic_shared() const { return shared_end_ - (shape_.shared + 15) / 16 * 16; }
  bool is_shared(const void* p, size_t n) const;

 private:
  static void enter();
  void move_to_this_thread();
  void begin_block();
  void make_ready(int thread);
  void make_waiting(State state);
  /* Goes on with a ready lane of the same warp, or with the scheduler when all wait. */
  void switch_out();
  int next_lane(const Warp& warp) const;
  void become(int thread);
  /* Runs the ready lanes of a warp until all wait; returns whether there was one. */
  bool run_warp(int index);
  void release_barrier();
  [[noreturn]] void report_stuck() const;

  GridShape shape_{};
  const std::function<void()>* body_ = nullptr;
  std::vector<Fiber> fibers_;
  std::vector<uint8_t> signal_stack_;
  std::unique_ptr<Warp[]> warps_;
  Range static_shared_{}; /* of this thread of the CPU */
  Here* here_ = nullptr;  /* at the beginning of the stacks */
  uint8_t *stacks_ = nullptr, *shared_memory_ = nullptr, *shared_end_ = nullptr;
  void* scheduler_ = nullptr; /* its saved stack */
  int n_threads_ = 0, n_warps_ = 0, current_ = 0, alive_ = 0, at_barrier_ = 0;
  int at_own_barrier_[kOwnBarriers] = {};
  bool backwards_ = false;  /* lanes */
  bool shared_used_ = true; /* static shared memory, by a block since it was last filled */
};

}  // namespace emulation
#endif
