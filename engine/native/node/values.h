/* JavaScript values as C++ values. A wrong value throws ek::ArgError, which the entry point turns into an
 * Error. */
#ifndef EK_NODE_VALUES_H
#define EK_NODE_VALUES_H
#include <node_api.h>

#include <cmath>
#include <string>
#include <vector>

#include "../core/check.h"
#include "../core/error.h"
#include "engine_kernels.h"

namespace ek::node {

/* What a JavaScript handle points to. `object` is null once it was released. */
struct Handle {
  const char* kind; /* static string; compared by content */
  void* object;
  size_t n_bytes; /* of a mapping */
};

/* Frees what a handle points to, once. */
void release(Handle& handle) noexcept;

/* A number of elements and where they lie. */
template <class T>
struct Array {
  T* data;
  size_t length;
};

struct Bytes {
  void* data;
  size_t length;
};

/* Throws unless an N-API call succeeded. */
inline void check(napi_status status, const char* what) {
  if (status != napi_ok) throw ArgError(format("%s: expected another type of value", what));
}

/* The arguments of one call. */
class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info, size_t expected, const char* function);

  napi_env env() const { return env_; }
  double number(size_t i, const char* name) const;
  int32_t integer(size_t i, const char* name) const;
  size_t size(size_t i, const char* name) const;
  bool boolean(size_t i, const char* name) const;
  bool is_null(size_t i) const;
  std::string text(size_t i, const char* name) const;
  Bytes bytes(size_t i, const char* name) const;
  Array<int32_t> ints(size_t i, const char* name) const;
  Array<float> floats(size_t i, const char* name) const;
  Array<uint8_t> octets(size_t i, const char* name) const;
  Handle& any_handle(size_t i, const char* name) const;
  /* The live object of a handle of this kind. */
  void* object(size_t i, const char* kind) const;
  /* Those of an array of handles of one kind; null for null. */
  std::vector<void*> objects(size_t i, const char* kind) const;
  template <class T>
  T* get(size_t i, const char* kind) const {
    return static_cast<T*>(object(i, kind));
  }
  /* null for null. */
  template <class T>
  T* get_or_null(size_t i, const char* kind) const {
    return is_null(i) ? nullptr : get<T>(i, kind);
  }

 private:
  Handle& handle_of(napi_value value, const char* name) const;
  void* live_object(napi_value value, size_t i, const char* kind) const;

  napi_env env_;
  const char* function_;
  napi_value values_[20];
};

/* Throws the failure of a kernel call: its message and status travel to JavaScript. */
struct KernelError {
  ek_status status;
};
inline void require_ok(ek_status status) {
  if (status != EK_OK) throw KernelError{status};
}

napi_value make_handle(napi_env env, const char* kind, void* object, size_t n_bytes = 0);
napi_value make_number(napi_env env, double value);
napi_value make_undefined(napi_env env);
napi_value make_text(napi_env env, const char* text);
void set_property(napi_env env, napi_value object, const char* name, napi_value value);

}  // namespace ek::node
#endif
