#include "worker.h"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "fiber.h"

__thread uint3 blockDim, gridDim;

namespace emulation {

__thread Worker* worker;

namespace {

/* The thread-local memory of this library: static shared memory of all kernels, and `here`. */
Range thread_locals() {
  struct Search {
    uintptr_t inside;
    Range found;
  } search{reinterpret_cast<uintptr_t>(&thread_locals), {}};
  *const_cast<Worker* volatile*>(&worker) = worker; /* touched, so that it exists */
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* argument) {
        Search& s = *static_cast<Search*>(argument);
        bool mine = false;
        const ElfW(Phdr)* tls = nullptr;
        for (int i = 0; i < info->dlpi_phnum; i++) {
          const ElfW(Phdr)& part = info->dlpi_phdr[i];
          const uintptr_t begin = info->dlpi_addr + part.p_vaddr;
          if (part.p_type == PT_LOAD) mine |= s.inside >= begin && s.inside < begin + part.p_memsz;
          if (part.p_type == PT_TLS) tls = &part;
        }
        if (mine && tls != nullptr) s.found = {static_cast<uint8_t*>(info->dlpi_tls_data), tls->p_memsz};
        return mine ? 1 : 0;
      },
      &search);
  if (search.found.begin == nullptr) fail("the thread-local memory of the kernels was not found");
  return search.found;
}

uint8_t* map(size_t n_bytes) {
  void* p =
      mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) fail("no memory for a worker");
  return static_cast<uint8_t*>(p);
}

/* Aligned to its size, a power of two. */
uint8_t* map_aligned(size_t n_bytes) {
  uint8_t* all = map(2 * n_bytes);
  const size_t before = -reinterpret_cast<uintptr_t>(all) % n_bytes;
  if (before > 0) munmap(all, before);
  munmap(all + before + n_bytes, n_bytes - before);
  return all + before;
}

uint32_t all_lanes(int n) { return n == kLanes ? 0xffffffffu : (1u << n) - 1; }

bool same_site(const Site& a, const Site& b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

constexpr size_t kPage = 4096, kSharedPages = (kMostShared + kPage - 1) / kPage * kPage;

}  // namespace

Worker::Worker() : fibers_(kMostThreads), signal_stack_(1 << 16), warps_(new Warp[kMostThreads / kLanes]) {
  stacks_ = map_aligned(kStacksBytes);
  here_ = new (stacks_) Here{this, {}, {}};
  shared_memory_ = map(kSharedPages + kPage);
  shared_end_ = shared_memory_ + kSharedPages;
  mprotect(shared_end_, kPage, PROT_NONE);
}

Worker::~Worker() {
  munmap(stacks_, kStacksBytes);
  munmap(shared_memory_, kSharedPages + kPage);
}

bool Worker::is_shared(const void* p, size_t n) const {
  const uint8_t* at = static_cast<const uint8_t*>(p);
  return (at >= dynamic_shared() && at + n <= shared_end_) ||
         (at >= static_shared_.begin && at + n <= static_shared_.begin + static_shared_.n_bytes);
}

void Worker::enter() {
  Worker& w = *here().worker;
  (*w.body_)();
  w.make_waiting(State::kDone);
  w.alive_--;
  if (w.alive_ > 0 && w.at_barrier_ == w.alive_)
    w.release_barrier(); /* legal: it counts those that are left */
  w.switch_out();
  fail("a finished thread runs again");
}

void Worker::make_ready(int thread) {
  fibers_[static_cast<size_t>(thread)].state = State::kReady;
  warps_[thread / kLanes].ready |= 1u << thread % kLanes;
}

void Worker::make_waiting(State state) {
  current().state = state;
  warps_[current_ / kLanes].ready &= ~(1u << current_ % kLanes);
}

int Worker::next_lane(const Warp& warp) const {
  return backwards_ ? 31 - __builtin_clz(warp.ready) : __builtin_ctz(warp.ready);
}

void Worker::become(int thread) {
  current_ = thread;
  const unsigned x = shape_.block.x, y = shape_.block.y, at = static_cast<unsigned>(thread);
  here_->thread = at < x ? uint3{at, 0, 0} : uint3{at % x, at / x % y, at / x / y};
}

void Worker::switch_out() {
  void** from = &current().stack;
  const int warp = current_ / kLanes;
  if (warps_[warp].ready == 0) return ek_switch_stack(from, scheduler_);
  become(warp * kLanes + next_lane(warps_[warp]));
  ek_switch_stack(from, current().stack);
}

void Worker::release_barrier() {
  const Site* first = nullptr;
  for (int i = 0; i < n_threads_; i++) {
    Fiber& f = fibers_[static_cast<size_t>(i)];
    if (f.state != State::kAtBarrier) continue;
    if (first == nullptr) first = &f.site;
    if (!same_site(f.site, *first))
      fail("threads of one block wait at %s:%d and at %s:%d", first->file, first->line, f.site.file,
           f.site.line);
    make_ready(i);
  }
  at_barrier_ = 0;
}

void Worker::sync_block(const Site& site) {
  shared_used_ = true;
  current().site = site;
  make_waiting(State::kAtBarrier);
  if (++at_barrier_ == alive_) {
    release_barrier();
  } else {
    switch_out();
  }
}

void Worker::sync_some(const Site& site, int number, int n) {
  if (number < 1 || number >= kOwnBarriers || n % kLanes != 0)
    fail("barrier %d of %d threads is not possible", number, n);
  shared_used_ = true;
  current().site = site;
  current().barrier = number;
  make_waiting(State::kAtOwnBarrier);
  if (++at_own_barrier_[number] < n) return switch_out();
  for (int i = 0; i < n_threads_; i++) {
    Fiber& f = fibers_[static_cast<size_t>(i)];
    if (f.state != State::kAtOwnBarrier || f.barrier != number) continue;
    if (!same_site(f.site, site))
      fail("threads of one barrier wait at %s:%d and at %s:%d", site.file, site.line, f.site.file,
           f.site.line);
    make_ready(i);
  }
  at_own_barrier_[number] = 0;
}

const Exchange& Worker::exchange(const Site& site, const uint32_t* words, int n, void (*finish)(Exchange&)) {
  shared_used_ = true;
  Fiber& f = current();
  Warp& warp = warps_[current_ / kLanes];
  Exchange& e = warp.exchange[f.operations++ & 1];
  uint32_t* const own = e.word[current_ % kLanes];
  for (int i = 0; i < n; i++) own[i] = words[i];
  f.site = site;
  if (warp.arrived == 0) {
    warp.site = site;
  } else if (!same_site(site, warp.site)) {
    fail("lanes of one warp meet at %s:%d and at %s:%d", warp.site.file, warp.site.line, site.file,
         site.line);
  }
  if (++warp.arrived < warp.lanes) {
    warp.ready &= ~(1u << current_ % kLanes);
    switch_out();
    return e;
  }
  e.lanes = warp.lanes;
  if (finish != nullptr) finish(e);
  warp.arrived = 0;
  warp.ready = all_lanes(warp.lanes);
  return e;
}

bool Worker::run_warp(int index) {
  Warp& warp = warps_[index];
  const bool any = warp.ready != 0;
  while (warp.ready != 0) {
    become(index * kLanes + next_lane(warp));
    ek_switch_stack(&scheduler_, current().stack);
  }
  return any;
}

void Worker::report_stuck() const {
  std::map<std::string, int> places;
  for (int i = 0; i < n_threads_; i++) {
    const Fiber& f = fibers_[static_cast<size_t>(i)];
    if (f.state == State::kDone) {
      places["have ended"]++;
    } else {
      places[std::string("wait at ") + f.site.file + ":" + std::to_string(f.site.line)]++;
    }
  }
  std::string words;
  for (const auto& [place, n] : places) words += "\n  " + std::to_string(n) + " threads " + place;
  fail("a block is stuck:%s", words.c_str());
}

/* Signals need a stack that is no fiber's. */
void Worker::move_to_this_thread() {
  static_shared_ = thread_locals();
  stack_t stack{};
  stack.ss_sp = signal_stack_.data();
  stack.ss_size = signal_stack_.size();
  sigaltstack(&stack, nullptr);
  worker = this;
}

void Worker::begin_block() {
  /* As on the GPU nothing is initialised; all ones are NaN in every float type. */
  if (shared_used_) {
    std::memset(static_shared_.begin, 0xff, static_shared_.n_bytes);
    worker = this;
  }
  shared_used_ = false;
  std::memset(dynamic_shared(), 0xff, static_cast<size_t>(shared_end_ - dynamic_shared()));
  for (int i = 0; i < n_threads_; i++) {
    Fiber& f = fibers_[static_cast<size_t>(i)];
    /* Stacks begin at different lines of the cache. */
    uint8_t* top = stacks_ + kStackBytes * static_cast<size_t>(i + 1) - static_cast<size_t>(i % 64) * 192;
    f.stack = new_stack(top, enter);
    f.state = State::kReady;
    f.site = {"nowhere", 0};
    f.operations = 0;
    f.group = 0;
    f.copies.clear();
  }
  for (int i = 0; i < n_warps_; i++) {
    const int lanes = n_threads_ - i * kLanes < kLanes ? n_threads_ - i * kLanes : kLanes;
    warps_[i].lanes = lanes;
    warps_[i].ready = all_lanes(lanes);
    warps_[i].arrived = 0;
  }
  alive_ = n_threads_;
  at_barrier_ = 0;
  std::fill(at_own_barrier_, at_own_barrier_ + kOwnBarriers, 0);
}

void Worker::run_block(const GridShape& shape, uint3 block, const std::function<void()>& body,
                       unsigned turn) {
  shape_ = shape;
  body_ = &body;
  if (worker != this) move_to_this_thread();
  n_threads_ = static_cast<int>(shape.block.x * shape.block.y * shape.block.z);
  n_warps_ = (n_threads_ + kLanes - 1) / kLanes;
  backwards_ = turn / 2 % 2 == 1;
  begin_block();
  here_->block = block;
  blockDim = shape.block;
  gridDim = shape.grid;
  while (alive_ > 0) {
    bool any = false;
    for (int k = 0; k < n_warps_; k++) any |= run_warp(turn % 2 == 0 ? k : n_warps_ - 1 - k);
    if (!any && alive_ > 0) report_stuck();
  }
}

}  // namespace emulation
