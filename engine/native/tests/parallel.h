/* Shares work of the host out to the machine's threads, for references that would take minutes on one. */
#ifndef EK_TESTS_PARALLEL_H
#define EK_TESTS_PARALLEL_H
#include <algorithm>
#include <cstddef>
#include <thread>
#include <vector>

namespace ek::test {

inline size_t most_workers() { return std::max(1u, std::thread::hardware_concurrency()); }

/* Calls body(begin, end, worker) for ranges that together are [0, n), each in a thread of its own and of at
 * least `least` elements unless n is less; workers are numbered from 0 to most_workers() - 1. */
template <class Body>
void in_parallel(size_t n, size_t least, Body&& body) {
  const size_t n_workers = std::clamp<size_t>(n / least, 1, most_workers());
  std::vector<std::thread> threads;
  for (size_t w = 1; w < n_workers; w++)
    threads.emplace_back([&, w] { body(n * w / n_workers, n * (w + 1) / n_workers, w); });
  body(size_t{0}, n / n_workers, size_t{0});
  for (std::thread& t : threads) t.join();
}

}  // namespace ek::test
#endif
