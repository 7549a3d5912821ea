/* Included by isa_*.cpp inside its own namespace, before kernels.inl. GCC's vector type becomes one AVX-512
 * register, or two, or four. */
typedef float Vec __attribute__((vector_size(64)));
typedef int32_t Int __attribute__((vector_size(64)));

inline Vec load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof v); }
inline Vec splat(float x) { return x - Vec{}; }
inline Vec to_float(Int v) { return __builtin_convertvector(v, Vec); }
