#include "values.h"

#include <cstring>
#include <memory>

namespace ek::node {

namespace {

constexpr size_t kMaxArguments = 20;

template <class T>
void destroy(void* object, void (*free)(T*)) {
  free(static_cast<T*>(object));
}

void finalize(napi_env, void* data, void*) {
  std::unique_ptr<Handle> handle(static_cast<Handle*>(data));
  release(*handle);
}

}  // namespace

void release(Handle& handle) noexcept {
  void* object = handle.object;
  handle.object = nullptr;
  if (object == nullptr) return;
  const auto is = [&](const char* kind) { return std::strcmp(handle.kind, kind) == 0; };
  if (is("context")) destroy(object, ek_context_destroy);
  if (is("buffer")) destroy(object, ek_buffer_free);
  if (is("mapping")) destroy(object, ek_mapping_close);
  if (is("weight")) destroy(object, ek_weight_destroy);
  if (is("rope")) destroy(object, ek_rope_destroy);
  if (is("kv")) destroy(object, ek_kv_destroy);
  if (is("batch")) destroy(object, ek_batch_destroy);
  if (is("model")) destroy(object, ek_model_destroy);
}

Arguments::Arguments(napi_env env, napi_callback_info info, size_t expected, const char* function)
    : env_(env), function_(function) {
  size_t n = kMaxArguments;
  check(napi_get_cb_info(env, info, &n, values_, nullptr, nullptr), function);
  EK_REQUIRE(n == expected, "%s: expected %zu arguments, got %zu", function, expected, n);
}

double Arguments::number(size_t i, const char* name) const {
  double value = 0;
  const napi_status status = napi_get_value_double(env_, values_[i], &value);
  EK_REQUIRE(status == napi_ok, "%s: %s must be a number", function_, name);
  return value;
}

int32_t Arguments::integer(size_t i, const char* name) const {
  const double value = number(i, name);
  EK_REQUIRE(value == std::floor(value) && std::fabs(value) <= 2147483647.0,
             "%s: %s must be a 32-bit integer, got %g", function_, name, value);
  return static_cast<int32_t>(value);
}

size_t Arguments::size(size_t i, const char* name) const {
  const double value = number(i, name);
  EK_REQUIRE(value == std::floor(value) && value >= 0 && value <= 9007199254740991.0,
             "%s: %s must be a size in bytes, got %g", function_, name, value);
  return static_cast<size_t>(value);
}

bool Arguments::boolean(size_t i, const char* name) const {
  bool value = false;
  const napi_status status = napi_get_value_bool(env_, values_[i], &value);
  EK_REQUIRE(status == napi_ok, "%s: %s must be a boolean", function_, name);
  return value;
}

bool Arguments::is_null(size_t i) const {
  napi_valuetype type = napi_undefined;
  check(napi_typeof(env_, values_[i], &type), function_);
  return type == napi_null;
}

std::string Arguments::text(size_t i, const char* name) const {
  size_t length = 0;
  const napi_status status = napi_get_value_string_utf8(env_, values_[i], nullptr, 0, &length);
  EK_REQUIRE(status == napi_ok, "%s: %s must be a string", function_, name);
  std::string value(length + 1, '\0');
  check(napi_get_value_string_utf8(env_, values_[i], value.data(), value.size(), &length), function_);
  value.resize(length);
  return value;
}

Bytes Arguments::bytes(size_t i, const char* name) const {
  bool typed = false;
  check(napi_is_typedarray(env_, values_[i], &typed), function_);
  EK_REQUIRE(typed, "%s: %s must be a typed array", function_, name);
  napi_typedarray_type type = napi_uint8_array;
  size_t length = 0;
  void* data = nullptr;
  check(napi_get_typedarray_info(env_, values_[i], &type, &length, &data, nullptr, nullptr), function_);
  static constexpr size_t kElement[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
  EK_REQUIRE(static_cast<size_t>(type) < sizeof kElement / sizeof kElement[0],
             "%s: %s has an unknown element type", function_, name);
  return {data, length * kElement[type]};
}

namespace {

void* typed_data(napi_env env, napi_value value, napi_typedarray_type wanted, size_t* length) {
  bool typed = false;
  if (napi_is_typedarray(env, value, &typed) != napi_ok || !typed) return nullptr;
  static char none; /* an empty array has no address of its own */
  napi_typedarray_type type = napi_uint8_array;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, length, &data, nullptr, nullptr) != napi_ok) return nullptr;
  if (type != wanted) return nullptr;
  return data == nullptr ? &none : data;
}

}  // namespace

Array<int32_t> Arguments::ints(size_t i, const char* name) const {
  Array<int32_t> array{nullptr, 0};
  array.data = static_cast<int32_t*>(typed_data(env_, values_[i], napi_int32_array, &array.length));
  EK_REQUIRE(array.data != nullptr, "%s: %s must be an Int32Array", function_, name);
  EK_REQUIRE(array.length <= 0x7fffffff, "%s: %s is too long", function_, name);
  return array;
}

Array<float> Arguments::floats(size_t i, const char* name) const {
  Array<float> array{nullptr, 0};
  array.data = static_cast<float*>(typed_data(env_, values_[i], napi_float32_array, &array.length));
  EK_REQUIRE(array.data != nullptr, "%s: %s must be a Float32Array", function_, name);
  EK_REQUIRE(array.length <= 0x7fffffff, "%s: %s is too long", function_, name);
  return array;
}

Array<uint8_t> Arguments::octets(size_t i, const char* name) const {
  Array<uint8_t> array{nullptr, 0};
  array.data = static_cast<uint8_t*>(typed_data(env_, values_[i], napi_uint8_array, &array.length));
  EK_REQUIRE(array.data != nullptr, "%s: %s must be a Uint8Array", function_, name);
  return array;
}

Handle& Arguments::handle_of(napi_value value, const char* name) const {
  napi_valuetype type = napi_undefined;
  check(napi_typeof(env_, value, &type), function_);
  EK_REQUIRE(type == napi_external, "%s: %s must be a native handle", function_, name);
  void* data = nullptr;
  check(napi_get_value_external(env_, value, &data), function_);
  return *static_cast<Handle*>(data);
}

Handle& Arguments::any_handle(size_t i, const char* name) const { return handle_of(values_[i], name); }

void* Arguments::object(size_t i, const char* kind) const { return live_object(values_[i], i, kind); }

std::vector<void*> Arguments::objects(size_t i, const char* kind) const {
  bool is_array = false;
  check(napi_is_array(env_, values_[i], &is_array), function_);
  EK_REQUIRE(is_array, "%s: argument %zu must be an array of handles", function_, i);
  uint32_t length = 0;
  check(napi_get_array_length(env_, values_[i], &length), function_);
  std::vector<void*> out;
  for (uint32_t at = 0; at < length; at++) {
    napi_value value = nullptr;
    napi_valuetype type = napi_undefined;
    check(napi_get_element(env_, values_[i], at, &value), function_);
    check(napi_typeof(env_, value, &type), function_);
    out.push_back(type == napi_null ? nullptr : live_object(value, i, kind));
  }
  return out;
}

void* Arguments::live_object(napi_value value, size_t i, const char* kind) const {
  const Handle& handle = handle_of(value, kind);
  EK_REQUIRE(std::strcmp(handle.kind, kind) == 0, "%s: argument %zu must be a %s, is a %s", function_, i,
             kind, handle.kind);
  EK_REQUIRE(handle.object != nullptr, "%s: the %s was disposed", function_, kind);
  return handle.object;
}

napi_value make_handle(napi_env env, const char* kind, void* object, size_t n_bytes) {
  auto handle = std::make_unique<Handle>(Handle{kind, object, n_bytes});
  napi_value value = nullptr;
  const napi_status status = napi_create_external(env, handle.get(), finalize, nullptr, &value);
  if (status != napi_ok) release(*handle);
  check(status, kind);
  handle.release(); /* the finalizer owns it now */
  return value;
}

napi_value make_number(napi_env env, double value) {
  napi_value out = nullptr;
  check(napi_create_double(env, value, &out), "number");
  return out;
}

napi_value make_undefined(napi_env env) {
  napi_value out = nullptr;
  check(napi_get_undefined(env, &out), "undefined");
  return out;
}

napi_value make_text(napi_env env, const char* text) {
  napi_value out = nullptr;
  check(napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &out), "string");
  return out;
}

void set_property(napi_env env, napi_value object, const char* name, napi_value value) {
  check(napi_set_named_property(env, object, name, value), name);
}

}  // namespace ek::node
