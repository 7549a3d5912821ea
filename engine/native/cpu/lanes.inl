/* Sixteen floats or integers: one register of 64 bytes, or pairs of halves down to the registers that the
 * including file has (kRegisterBytes). GCC keeps a vector that is wider than its registers in memory, which
 * made a multiply-add ten times as slow; halves of a struct are kept in registers. Included inside the
 * namespace of an instruction set. */
#define EK_INLINE [[gnu::always_inline]] inline

typedef float FloatRegister __attribute__((vector_size(kRegisterBytes)));
typedef int32_t IntRegister __attribute__((vector_size(kRegisterBytes)));

template <class Half>
struct Pair {
  Half low, high;
};

#define EK_LANES(op)                                                         \
  template <class Half>                                                      \
  EK_INLINE auto operator op(const Pair<Half>& a, const Pair<Half>& b) {     \
    return Pair<decltype(a.low op b.low)>{a.low op b.low, a.high op b.high}; \
  }                                                                          \
  template <class Half>                                                      \
  EK_INLINE auto operator op(const Pair<Half>& a, int32_t b) {               \
    return Pair<decltype(a.low op b)>{a.low op b, a.high op b};              \
  }
EK_LANES(+)
EK_LANES(-)
EK_LANES(*)
EK_LANES(/)
EK_LANES(&)
EK_LANES(<<)
EK_LANES(>>)
EK_LANES(<)
EK_LANES(>)
EK_LANES(>=)
EK_LANES(==)
EK_LANES(!=)
#undef EK_LANES

template <class Half>
EK_INLINE Pair<Half> operator-(const Pair<Half>& a) {
  return {-a.low, -a.high};
}
template <class Half>
EK_INLINE Pair<Half> operator~(const Pair<Half>& a) {
  return {~a.low, ~a.high};
}
template <class Half>
EK_INLINE void operator+=(Pair<Half>& a, const Pair<Half>& b) {
  a.low += b.low;
  a.high += b.high;
}

/* What 16 lanes are made of when a part has `Bytes` bytes. */
template <class Register, int Bytes>
struct Lanes {
  using type = Pair<typename Lanes<Register, Bytes / 2>::type>;
};
template <class Register>
struct Lanes<Register, kRegisterBytes> {
  using type = Register;
};
using Vec = Lanes<FloatRegister, 64>::type;
using Int = Lanes<IntRegister, 64>::type;
static_assert(sizeof(Vec) == 64 && sizeof(Int) == 64);

/* Lanes of a where the mask is set, of b elsewhere. */
EK_INLINE FloatRegister select(IntRegister mask, FloatRegister a, FloatRegister b) { return mask ? a : b; }
template <class M, class Half>
EK_INLINE Pair<Half> select(const Pair<M>& mask, const Pair<Half>& a, const Pair<Half>& b) {
  return {select(mask.low, a.low, b.low), select(mask.high, a.high, b.high)};
}
EK_INLINE FloatRegister to_float(IntRegister v) { return __builtin_convertvector(v, FloatRegister); }
EK_INLINE IntRegister to_int(FloatRegister v) { return __builtin_convertvector(v, IntRegister); }
template <class Half>
EK_INLINE auto to_float(const Pair<Half>& v) {
  return Pair<decltype(to_float(v.low))>{to_float(v.low), to_float(v.high)};
}
template <class Half>
EK_INLINE auto to_int(const Pair<Half>& v) {
  return Pair<decltype(to_int(v.low))>{to_int(v.low), to_int(v.high)};
}

template <class T>
EK_INLINE void fill(T& v, decltype(T{}[0]) x) {
  v = x - T{};
}
template <class Half, class X>
EK_INLINE void fill(Pair<Half>& v, X x) {
  fill(v.low, x);
  v.high = v.low;
}
EK_INLINE Vec splat(float x) {
  Vec v;
  fill(v, x);
  return v;
}
EK_INLINE Int splat_int(int32_t x) {
  Int v;
  fill(v, x);
  return v;
}

/* Register by register: a copy of the whole struct would go through memory in smaller steps. */
template <class T>
EK_INLINE void copy_in(T& v, const void* p) {
  __builtin_memcpy(&v, p, sizeof v);
}
template <class Half>
EK_INLINE void copy_in(Pair<Half>& v, const void* p) {
  copy_in(v.low, p);
  copy_in(v.high, static_cast<const char*>(p) + sizeof v.low);
}
template <class T>
EK_INLINE void copy_out(void* p, const T& v) {
  __builtin_memcpy(p, &v, sizeof v);
}
template <class Half>
EK_INLINE void copy_out(void* p, const Pair<Half>& v) {
  copy_out(p, v.low);
  copy_out(static_cast<char*>(p) + sizeof v.low, v.high);
}
EK_INLINE Vec load(const float* p) {
  Vec v;
  copy_in(v, p);
  return v;
}
EK_INLINE void store(float* p, const Vec& v) { copy_out(p, v); }
EK_INLINE Int load_words(const void* p) {
  Int v;
  copy_in(v, p);
  return v;
}
/* 0, 1 … 15. */
EK_INLINE Int lanes() {
  static constexpr int32_t kIndex[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return load_words(kIndex);
}
EK_INLINE Vec larger(const Vec& a, const Vec& b) { return select(a > b, a, b); }

/* The same bits as the other type. */
EK_INLINE FloatRegister float_of_bits(IntRegister v) { return (FloatRegister)v; }
EK_INLINE IntRegister bits_of_float(FloatRegister v) { return (IntRegister)v; }
template <class Half>
EK_INLINE auto float_of_bits(const Pair<Half>& v) {
  return Pair<decltype(float_of_bits(v.low))>{float_of_bits(v.low), float_of_bits(v.high)};
}
template <class Half>
EK_INLINE auto bits_of_float(const Pair<Half>& v) {
  return Pair<decltype(bits_of_float(v.low))>{bits_of_float(v.low), bits_of_float(v.high)};
}
