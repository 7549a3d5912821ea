/* The edge of the shared object that holds the CUDA backend.
 *
 * The engine's library opens it with dlopen on first use, so that machines without a driver never load it.
 * Both sides are built together from the same headers; only one thing must not cross: an exception, because
 * each side links its own C++ runtime. So the host runs every call through `run`, which catches inside the
 * shared object. */
#ifndef EK_CUDA_PLUGIN_H
#define EK_CUDA_PLUGIN_H
#include <cstddef>

#include "engine_kernels.h"

namespace ek {
class Backend;
}

/* Changes with any header that both sides read. */
#define EK_CUDA_PLUGIN_VERSION 3
#define EK_CUDA_PLUGIN_SYMBOL "ek_cuda_plugin"

struct ek_cuda_plugin_table {
  int version;
  /* Calls body(argument); writes the message of what it threw, cut to `capacity`, and returns its kind. */
  ek_status (*run)(void (*body)(void*), void* argument, char* message, size_t capacity);
  /* Throws; call it inside run. The caller owns the backend. */
  ek::Backend* (*make_backend)(int ordinal);
};

#endif
