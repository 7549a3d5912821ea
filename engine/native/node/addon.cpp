/* Registers the exports. No state of its own, so every worker thread can load the addon. */
#include "entry.h"

namespace ek::node {

namespace {

bool add(napi_env env, napi_value exports, const Entry& entry) {
  napi_value function = nullptr;
  return napi_create_function(env, entry.name, NAPI_AUTO_LENGTH, call_entry, const_cast<Entry*>(&entry),
                              &function) == napi_ok &&
         napi_set_named_property(env, exports, entry.name, function) == napi_ok;
}

}  // namespace

}  // namespace ek::node

NAPI_MODULE_INIT() {
  for (size_t i = 0; i < ek::node::kNObjectEntries; i++) {
    if (!ek::node::add(env, exports, ek::node::kObjectEntries[i])) return nullptr;
  }
  for (size_t i = 0; i < ek::node::kNOpEntries; i++) {
    if (!ek::node::add(env, exports, ek::node::kOpEntries[i])) return nullptr;
  }
  for (size_t i = 0; i < ek::node::kNModelEntries; i++) {
    if (!ek::node::add(env, exports, ek::node::kModelEntries[i])) return nullptr;
  }
  return exports;
}
