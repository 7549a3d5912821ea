/* The table of exported functions and the wrapper around each. */
#ifndef EK_NODE_ENTRY_H
#define EK_NODE_ENTRY_H
#include <exception>

#include "values.h"

namespace ek::node {

using Function = napi_value (*)(const Arguments&);

struct Entry {
  const char* name;
  size_t n_arguments;
  Function function;
};

/* Throws a JavaScript Error with the code of engine/base/errors.ts. */
inline void throw_error(napi_env env, const char* code, const char* message) {
  napi_throw_error(env, code, message);
}

inline const char* code_of(ek_status status) {
  switch (status) {
    case EK_ERR_ARG:
      return "bad_argument";
    case EK_ERR_OOM:
      return "out_of_memory";
    case EK_ERR_DEVICE:
      return "device";
    case EK_OK:
    case EK_ERR_INTERNAL:
      break;
  }
  return "internal";
}

inline napi_value call_entry(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  if (napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data) != napi_ok) return nullptr;
  const Entry& entry = *static_cast<const Entry*>(data);
  try {
    return entry.function(Arguments(env, info, entry.n_arguments, entry.name));
  } catch (const KernelError& error) {
    throw_error(env, code_of(error.status), ek_last_error());
  } catch (const ArgError& error) {
    throw_error(env, "bad_argument", error.what());
  } catch (const std::bad_alloc&) {
    throw_error(env, "out_of_memory", "out of memory");
  } catch (const std::exception& error) {
    throw_error(env, "internal", error.what());
  }
  return nullptr;
}

/* Three tables, each in its own file: things that are owned, ops, and whole models. */
extern const Entry kObjectEntries[];
extern const size_t kNObjectEntries;
extern const Entry kOpEntries[];
extern const size_t kNOpEntries;
extern const Entry kModelEntries[];
extern const size_t kNModelEntries;

}  // namespace ek::node
#endif
