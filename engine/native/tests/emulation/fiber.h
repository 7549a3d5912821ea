/* A thread of its own stack that is switched to and from by hand. x86-64 with the System V ABI. */
#ifndef EK_TESTS_EMULATION_FIBER_H
#define EK_TESTS_EMULATION_FIBER_H
#include <cstddef>
#include <cstdint>

/* Saves the callee's registers and the stack in *from, and goes on where `to` was saved. */
extern "C" void ek_switch_stack(void** from, void* to);

namespace emulation {

/* The saved stack of a fiber that will call entry, which never returns. top: the end of its memory. */
inline void* new_stack(uint8_t* top, void (*entry)()) {
  constexpr int kSavedRegisters = 6;
  uintptr_t* at = reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
  *--at = 0; /* nobody to return to; also aligns the stack as a call would */
  *--at = reinterpret_cast<uintptr_t>(entry);
  for (int i = 0; i < kSavedRegisters; i++) *--at = 0;
  return at;
}

}  // namespace emulation
#endif
