/* Exports that make, fill and free things. Argument order: engine/backend/addon.ts. */
#include <utility>

#include "entry.h"

namespace ek::node {

namespace {

ek_context* context(const Arguments& a) { return a.get<ek_context>(0, "context"); }

napi_value abi_version(const Arguments& a) { return make_number(a.env(), ek_abi_version()); }

napi_value release_handle(const Arguments& a) {
  release(a.any_handle(0, "handle"));
  return make_undefined(a.env());
}

napi_value context_create(const Arguments& a) {
  const std::string isa = a.is_null(3) ? "" : a.text(3, "isa");
  ek_context* ctx = nullptr;
  require_ok(ek_context_create(static_cast<ek_device>(a.integer(0, "device")), a.integer(1, "ordinal"),
                               a.integer(2, "nThreads"), a.is_null(3) ? nullptr : isa.c_str(), &ctx));
  return make_handle(a.env(), "context", ctx);
}

napi_value context_describe(const Arguments& a) {
  return make_text(a.env(), ek_context_describe(context(a)));
}

napi_value buffer_alloc(const Arguments& a) {
  ek_buffer* buffer = nullptr;
  require_ok(ek_buffer_alloc(context(a), a.size(1, "nBytes"), &buffer));
  return make_handle(a.env(), "buffer", buffer);
}

napi_value buffer_upload(const Arguments& a) {
  const Bytes src = a.bytes(3, "src");
  require_ok(
      ek_buffer_upload(context(a), a.get<ek_buffer>(1, "buffer"), a.size(2, "offset"), src.data, src.length));
  return make_undefined(a.env());
}

napi_value buffer_download(const Arguments& a) {
  const Bytes dst = a.bytes(1, "dst");
  require_ok(ek_buffer_download(context(a), dst.data, a.get<ek_buffer>(2, "buffer"), a.size(3, "offset"),
                                dst.length));
  return make_undefined(a.env());
}

napi_value mapping_open(const Arguments& a) {
  ek_mapping* mapping = nullptr;
  size_t n_bytes = 0;
  require_ok(ek_mapping_open(a.text(0, "path").c_str(), &mapping, &n_bytes));
  return make_handle(a.env(), "mapping", mapping, n_bytes);
}

napi_value mapping_bytes(const Arguments& a) {
  a.get<ek_mapping>(0, "mapping");
  return make_number(a.env(), static_cast<double>(a.any_handle(0, "mapping").n_bytes));
}

napi_value weight_create(const Arguments& a) {
  ek_weight* weight = nullptr;
  require_ok(ek_weight_create(context(a), a.get<ek_mapping>(1, "mapping"), a.size(2, "offset"),
                              static_cast<ek_type>(a.integer(3, "type")), a.integer(4, "nMatrices"),
                              a.integer(5, "nRows"), a.integer(6, "nCols"), &weight));
  return make_handle(a.env(), "weight", weight);
}

napi_value weight_create_from_memory(const Arguments& a) {
  const Bytes data = a.bytes(1, "data");
  ek_weight* weight = nullptr;
  require_ok(ek_weight_create_from_memory(
      context(a), data.data, data.length, static_cast<ek_type>(a.integer(2, "type")),
      a.integer(3, "nMatrices"), a.integer(4, "nRows"), a.integer(5, "nCols"), &weight));
  return make_handle(a.env(), "weight", weight);
}

napi_value rope_create(const Arguments& a) {
  const Array<float> inv_freq = a.floats(1, "invFreq");
  EK_REQUIRE(inv_freq.length < (1u << 20), "ropeCreate: invFreq is too long");
  ek_rope* rope = nullptr;
  require_ok(ek_rope_create(context(a), inv_freq.data, static_cast<int32_t>(inv_freq.length * 2), &rope));
  return make_handle(a.env(), "rope", rope);
}

napi_value kv_create(const Arguments& a) {
  const ek_kv_params params{a.integer(1, "nLayers"),
                            a.integer(2, "latentDim"),
                            a.integer(3, "ropeDim"),
                            a.integer(4, "nBlocks"),
                            a.integer(5, "cmpLen"),
                            a.integer(6, "cmpStride"),
                            static_cast<ek_type>(a.integer(7, "type"))};
  ek_kv_cache* kv = nullptr;
  require_ok(ek_kv_create(context(a), &params, &kv));
  return make_handle(a.env(), "kv", kv);
}

napi_value kv_copy_block(const Arguments& a) {
  require_ok(
      ek_kv_copy_block(context(a), a.get<ek_kv_cache>(1, "kv"), a.integer(2, "dst"), a.integer(3, "src")));
  return make_undefined(a.env());
}

napi_value kv_bytes(const Arguments& a) {
  return make_number(a.env(), static_cast<double>(ek_kv_bytes(a.get<ek_kv_cache>(0, "kv"))));
}

napi_value batch_create(const Arguments& a) {
  ek_batch* batch = nullptr;
  require_ok(ek_batch_create(context(a), &batch));
  return make_handle(a.env(), "batch", batch);
}

napi_value batch_set(const Arguments& a) {
  const Array<int32_t> start = a.ints(3, "start"), n_new = a.ints(4, "nNew"),
                       n_blocks = a.ints(5, "nSeqBlocks");
  const Array<int32_t> blocks = a.ints(6, "blocks");
  EK_REQUIRE(start.length == n_new.length && start.length == n_blocks.length,
             "batchSet: start, nNew and nSeqBlocks must be equally long, got %zu, %zu, %zu", start.length,
             n_new.length, n_blocks.length);
  int64_t total = 0;
  for (size_t i = 0; i < n_blocks.length; i++) {
    EK_REQUIRE(n_blocks.data[i] >= 0, "batchSet: nSeqBlocks %zu is negative", i);
    total += n_blocks.data[i];
  }
  EK_REQUIRE(total == static_cast<int64_t>(blocks.length),
             "batchSet: nSeqBlocks sums to %lld, blocks has %zu", static_cast<long long>(total),
             blocks.length);
  require_ok(ek_batch_set(context(a), a.get<ek_batch>(1, "batch"), a.get<ek_rope>(2, "rope"),
                          static_cast<int32_t>(start.length), start.data, n_new.data, n_blocks.data,
                          blocks.data));
  return make_undefined(a.env());
}

napi_value profile_reset(const Arguments& a) {
  ek_profile_reset(context(a));
  return make_undefined(a.env());
}

napi_value profile_read(const Arguments& a) {
  ek_op_profile entries[64];
  const int32_t n = ek_profile_read(context(a), entries, 64);
  napi_value list = nullptr;
  check(napi_create_array_with_length(a.env(), n, &list), "array");
  for (int32_t i = 0; i < n; i++) {
    napi_value item = nullptr;
    check(napi_create_object(a.env(), &item), "object");
    set_property(a.env(), item, "op", make_text(a.env(), entries[i].op));
    set_property(a.env(), item, "calls", make_number(a.env(), static_cast<double>(entries[i].n_calls)));
    set_property(a.env(), item, "ns", make_number(a.env(), entries[i].ns));
    set_property(a.env(), item, "bytes", make_number(a.env(), entries[i].bytes));
    set_property(a.env(), item, "flops", make_number(a.env(), entries[i].flops));
    check(napi_set_element(a.env(), list, i, item), "array");
  }
  return list;
}

napi_value device_memory(const Arguments& a) {
  size_t free_bytes = 0, total_bytes = 0;
  require_ok(ek_device_memory(context(a), &free_bytes, &total_bytes));
  napi_value out = nullptr;
  check(napi_create_object(a.env(), &out), "object");
  set_property(a.env(), out, "freeBytes", make_number(a.env(), static_cast<double>(free_bytes)));
  set_property(a.env(), out, "totalBytes", make_number(a.env(), static_cast<double>(total_bytes)));
  return out;
}

napi_value measure_matrix_rate(const Arguments& a) {
  double tflop_per_s = 0;
  require_ok(ek_measure_matrix_rate(context(a), &tflop_per_s));
  return make_number(a.env(), tflop_per_s);
}

napi_value measure_attention(const Arguments& a) {
  ek_attention_times times{};
  require_ok(ek_measure_attention(context(a), a.integer(1, "nTokens"), a.integer(2, "batch"),
                                  a.integer(3, "rounds"), &times));
  napi_value out = nullptr;
  check(napi_create_object(a.env(), &out), "object");
  const std::pair<const char*, double> numbers[] = {
      {"denseUs", times.dense_us},         {"sparseUs", times.sparse_us},
      {"sharedUs", times.shared_us},       {"denseBytes", times.dense_bytes},
      {"sparseBytes", times.sparse_bytes}, {"denseFlops", times.dense_flops},
      {"sparseFlops", times.sparse_flops}, {"sharedFlops", times.shared_flops}};
  for (const auto& [name, value] : numbers) set_property(a.env(), out, name, make_number(a.env(), value));
  return out;
}

napi_value measure_limits(const Arguments& a) {
  double gb_per_s = 0, gflop_per_s = 0;
  require_ok(ek_measure_limits(context(a), a.size(1, "nBytes"), &gb_per_s, &gflop_per_s));
  napi_value out = nullptr;
  check(napi_create_object(a.env(), &out), "object");
  set_property(a.env(), out, "gbPerS", make_number(a.env(), gb_per_s));
  set_property(a.env(), out, "gflopPerS", make_number(a.env(), gflop_per_s));
  return out;
}

}  // namespace

const Entry kObjectEntries[] = {
    {"abiVersion", 0, abi_version},
    {"release", 1, release_handle},
    {"contextCreate", 4, context_create},
    {"contextDescribe", 1, context_describe},
    {"bufferAlloc", 2, buffer_alloc},
    {"bufferUpload", 4, buffer_upload},
    {"bufferDownload", 4, buffer_download},
    {"mappingOpen", 1, mapping_open},
    {"mappingBytes", 1, mapping_bytes},
    {"weightCreate", 7, weight_create},
    {"weightCreateFromMemory", 6, weight_create_from_memory},
    {"ropeCreate", 2, rope_create},
    {"kvCreate", 8, kv_create},
    {"kvCopyBlock", 4, kv_copy_block},
    {"kvBytes", 1, kv_bytes},
    {"batchCreate", 1, batch_create},
    {"batchSet", 7, batch_set},
    {"profileReset", 1, profile_reset},
    {"profileRead", 1, profile_read},
    {"measureLimits", 2, measure_limits},
    {"measureMatrixRate", 1, measure_matrix_rate},
    {"measureAttention", 4, measure_attention},
    {"deviceMemory", 1, device_memory},
};
const size_t kNObjectEntries = sizeof kObjectEntries / sizeof kObjectEntries[0];

}  // namespace ek::node
