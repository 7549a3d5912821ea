/* Runs CUDA kernels on the CPU, for tests on machines without a GPU: the sources of cuda/ compiled as plain
 * C++.
 *
 * Every thread of a block is a fiber. It runs until it must wait for others: at a barrier, or at an operation
 * of its warp. Blocks begin in ascending order on as many threads of the CPU as there are; within a block the
 * order of warps and lanes changes from launch to launch, so that a missing barrier gives other bits in a
 * second run.
 *
 * What is found beyond wrong results: threads of a block at different barriers, threads that wait for ever,
 * shared memory that is read before it is written (it begins as NaN), copies that nobody waited for (they
 * happen when they are waited for), and access behind the end of dynamic shared memory or of an allocation
 * (an unmapped page). What is not: races of the memory model, limits of registers, and anything about time.
 */
#ifndef EK_TESTS_EMULATION_EMULATOR_H
#define EK_TESTS_EMULATION_EMULATOR_H
#include <cstddef>
#include <cstdint>
#include <functional>

struct uint3 {
  unsigned x, y, z;
};

namespace emulation {

/* The place in a source that waits, for reports. */
struct Site {
  const char* file;
  int line;
};

struct GridShape {
  uint3 grid, block;
  size_t shared; /* bytes of dynamic shared memory */
};

class Worker;

constexpr int kLanes = 32, kWords = 8, kMostColumns = 128, kMostThreads = 1024;
/* Of a thread, and of all threads of a worker, aligned to their size. */
constexpr size_t kStackBytes = 128 * 1024, kStacksBytes = kStackBytes * kMostThreads;

/* Where the stacks of a worker begin. A thread finds it by its stack pointer: a thread-local variable of a
 * shared library takes a call each time. */
struct Here {
  Worker* worker;
  uint3 thread, block;
};
inline uintptr_t stack_pointer() {
  uintptr_t at;
  asm("movq %%rsp, %0" : "=r"(at));
  return at;
}
inline Here& here() { return *reinterpret_cast<Here*>(stack_pointer() & ~(kStacksBytes - 1)); }
inline int lane() { return static_cast<int>(stack_pointer() / kStackBytes % kLanes); }

/* What the lanes of a warp give to one operation of all of them. */
struct Exchange {
  uint32_t word[kLanes][kWords];
  float product[16][8];                  /* of mma */
  float group_product[16][kMostColumns]; /* the warp's rows of a warpgroup's */
  int lanes;                             /* that exist */
};

/* Calls body once per thread of every block, and returns when all are done. */
void run_grid(const GridShape& shape, const std::function<void()>& body);

void* dynamic_shared();
void sync_block(const Site& site);
/* A barrier of n threads of the block. */
void sync_some(const Site& site, int number, int n);
/* Gives n words and waits for the other lanes; the last to come calls `finish` before all go on. The result
 * holds until the lane's next operation but one. */
const Exchange& exchange(const Site& site, const uint32_t* words, int n, void (*finish)(Exchange&) = nullptr);

/* Copies of 16 bytes to shared memory that take place when they are waited for. */
void copy_later(void* to, const void* from, bool valid);
void end_copy_group();
void wait_for_copies(int most_groups_left);

/* Fails unless p points to 16 aligned bytes of shared memory. */
void require_shared_16(const void* p);

/* Prints what happened and where, and ends the process. */
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char* pattern, ...);

}  // namespace emulation

/* Of the running thread. */
#define threadIdx (::emulation::here().thread)
#define blockIdx (::emulation::here().block)
extern __thread uint3 blockDim, gridDim;
#endif
