/* The only place with instructions that CUDA C++ has no function for. Every function exists twice: here for
 * the GPU, and in tests/emulation/emulated_ptx.h for tests that run kernels on the CPU. Kernels have no other
 * difference between the two. */
#ifndef EK_CUDA_DEVICE_PTX_CUH
#define EK_CUDA_DEVICE_PTX_CUH

#ifndef __CUDACC__
#include <emulated_ptx.h>
#else
#include <cstdint>

namespace ek::cuda {

/* The block's dynamic shared memory, aligned to 16. */
template <class T>
__device__ inline T* dynamic_shared() {
  extern __shared__ uint4 ek_dynamic_shared[];
  return reinterpret_cast<T*>(ek_dynamic_shared);
}

/* threadIdx.x, asked for anew each time: what a loop makes of it takes no registers for longer than it is
 * needed, where what the compiler keeps would go to local memory. */
__device__ inline int thread_now() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

/* A constant in a register. The compiler takes it for unknown, which it must where one instruction needs two
 * constants: it has room for one, and would become two. */
__device__ inline uint32_t in_register(uint32_t constant) {
  uint32_t one;
  asm("mov.u32 %0, %%ntid.z;" : "=r"(one));
  return constant + (one - 1);
}

/* A load that stays out of L1: a weight is read once. */
__device__ inline uint4 stream16(const void* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

/* c (16 x 8) += a (16 x 16) b (16 x 8), one warp. Lane 4 g + t has of a the pairs (row, columns) a0 (g, 2t),
 * a1 (g + 8, 2t), a2 (g, 2t + 8), a3 (g + 8, 2t + 8); of b the pairs (rows, column) b0 (2t, g), b1 (2t + 8,
 * g); of c (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). */
__device__ inline void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* Two numbers rounded to f16, the first in the lower half. */
__device__ inline uint32_t pack_f16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

/* c (16 x 8) += a (16 x 32) b (32 x 8) of signed bytes, one warp. Lane 4 g + t has of a the fours (row,
 * columns) a0 (g, 4t), a1 (g + 8, 4t), a2 (g, 4t + 16), a3 (g + 8, 4t + 16); of b the fours (rows, column) b0
 * (4t, g), b1 (4t + 16, g); c as mma_bf16. */
__device__ inline void mma_s8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                              uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* Four 8 x 8 matrices of 2-byte elements from shared memory; lane 8 m + r gives the address of row r of
 * matrix m, 16 bytes. Lane 4 g + t gets elements 2t and 2t + 1 of row g of each. */
__device__ inline void load_matrices(uint32_t (&m)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address)
               : "memory");
}
/* The same of the transposed matrices: elements g of rows 2t and 2t + 1. */
__device__ inline void load_matrices_transposed(uint32_t (&m)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address)
               : "memory");
}

/* Begins to copy 16 bytes from device to shared memory, zeros unless `valid`. */
__device__ inline void copy_async_16(void* to, const void* from, bool valid) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}
/* Ends a group of copies of this thread. */
__device__ inline void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits until at most N groups of this thread are under way. */
template <int N>
__device__ inline void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* A barrier of some warps of the block, Threads threads; they have a number from 1 to 15 of their own. */
template <int Threads>
__device__ inline void sync_some(int number) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "n"(Threads) : "memory");
}

/* Counts in device memory: whoever has waited until a counter reached n sees all that its n callers of
 * count_up, and others of their blocks before a barrier, wrote before. */
__device__ inline void count_up(uint32_t* counter) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}
__device__ inline void wait_for_count(const uint32_t* counter, uint32_t n) {
  uint32_t reached;
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(reached) : "l"(counter) : "memory");
  } while (reached < n);
}

/* Products of a warpgroup, four warps whose first is a multiple of four, of sm_90 alone (sm_90a): it
 * multiplies what lies in shared memory, asynchronously. Rows of 64 bf16 with no gaps, whose 16-byte pieces
 * are permuted: piece i of row r is at i ^ r % 8; a tile's first row is aligned to 1024 bytes. */
struct SharedTile {
  uint64_t descriptor;

  /* `bytes` behind: other columns of the first 64, other rows by 8, or another tile. */
  __device__ SharedTile behind(int bytes) const { return {descriptor + static_cast<uint64_t>(bytes / 16)}; }
};

/* stride: bytes to the next 64 columns, of a right matrix whose rows are summed. */
__device__ inline SharedTile shared_tile(const void* first, int stride = 16) {
  const uint64_t address = static_cast<uint32_t>(__cvta_generic_to_shared(first)) / 16,
                 between = static_cast<uint64_t>(stride / 16);
  return {address | between << 16 | uint64_t{1024 / 16} << 32 | uint64_t{1} << 62};
}

/* The block's dynamic shared memory, aligned to 1024. */
template <class T>
__device__ inline T* aligned_shared() {
  extern __shared__ __align__(1024) uint8_t ek_aligned_shared[];
  return reinterpret_cast<T*>(ek_aligned_shared);
}

#if !defined(__CUDA_ARCH_FEAT_SM90_ALL)
__device__ inline void publish_shared() {}
__device__ inline void begin_group_products() {}
__device__ inline void commit_group_products() {}
template <int N>
__device__ void wait_for_group_products() {}
template <int N>
__device__ void multiply_group(float (&)[N][4], SharedTile, SharedTile) {
  asm volatile("trap;");
}
__device__ inline void multiply_group_first(float (&)[8][4], SharedTile, SharedTile) {
  asm volatile("trap;");
}
__device__ inline void multiply_group(float (&)[16][4], const uint32_t (&)[4], SharedTile) {
  asm volatile("trap;");
}
__device__ inline void multiply_group(float (&)[16][4], float (&)[2][4], const uint32_t (&)[4], SharedTile) {
  asm volatile("trap;");
}
#else
/* Makes what the thread wrote to shared memory visible to products that begin behind a barrier. */
__device__ inline void publish_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
/* Before products, behind them, and until at most N such groups of them are not done: meanwhile nobody may
 * touch their sums, nor what they read. They are begun in code that whole warps reach, as the compiler sees.
 */
__device__ inline void begin_group_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_group_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N>
__device__ void wait_for_group_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

#define EK_SUMS_4(how, c, n) how(c[n][0]), how(c[n][1]), how(c[n][2]), how(c[n][3])
#define EK_SUMS_16(how, c, n) \
  EK_SUMS_4(how, c, n), EK_SUMS_4(how, c, n + 1), EK_SUMS_4(how, c, n + 2), EK_SUMS_4(how, c, n + 3)

#define EK_PRODUCT_64(adds)                                                                                 \
  "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "                                                   \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27," \
  "%28,%29,%30,%31}, %32, %33, " adds ", 1, 1, 0, 0;"

/* c (64 x 64) += a (64 x 16) b (64 x 16) transposed. Warp w of the group has rows 16 w to 16 w + 15 of c, as
 * mma_bf16 for each 8 columns. */
__device__ inline void multiply_group(float (&c)[8][4], SharedTile a, SharedTile b) {
  asm volatile(EK_PRODUCT_64("1")
               : EK_SUMS_16("+f", c, 0), EK_SUMS_16("+f", c, 4)
               : "l"(a.descriptor), "l"(b.descriptor));
}
/* The same with = instead of +=, so that c needs no registers before. */
__device__ inline void multiply_group_first(float (&c)[8][4], SharedTile a, SharedTile b) {
  asm volatile(EK_PRODUCT_64("0")
               : EK_SUMS_16("=f", c, 0), EK_SUMS_16("=f", c, 4)
               : "l"(a.descriptor), "l"(b.descriptor));
}
#undef EK_PRODUCT_64

#define EK_PRODUCT_128(operands)                                                                             \
  "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "                                                   \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,"  \
  "%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53," \
  "%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, " operands ";"
#define EK_ALL_SUMS(c) \
  EK_SUMS_16("+f", c, 0), EK_SUMS_16("+f", c, 4), EK_SUMS_16("+f", c, 8), EK_SUMS_16("+f", c, 12)

/* c (64 x 128) += a (64 x 16) b (128 x 16) transposed. */
__device__ inline void multiply_group(float (&c)[16][4], SharedTile a, SharedTile b) {
  asm volatile(EK_PRODUCT_128("%64, %65, 1, 1, 1, 0, 0")
               : EK_ALL_SUMS(c)
               : "l"(a.descriptor), "l"(b.descriptor));
}

/* c (64 x 128) += a (64 x 16) b (16 x 128); a: of each warp's rows as mma_bf16. */
__device__ inline void multiply_group(float (&c)[16][4], const uint32_t (&a)[4], SharedTile b) {
  asm volatile(EK_PRODUCT_128("{%64,%65,%66,%67}, %68, 1, 1, 1, 1")
               : EK_ALL_SUMS(c)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.descriptor));
}

/* The same with 16 columns more, whose sums are d: b (16 x 144). */
__device__ inline void multiply_group(float (&c)[16][4], float (&d)[2][4], const uint32_t (&a)[4],
                                      SharedTile b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n144k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%"
      "27,"
      "%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%"
      "53,"
      "%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71}, {%72,%73,%74,%75}, %76, 1, "
      "1, "
      "1, 1;"
      : EK_ALL_SUMS(c), EK_SUMS_4("+f", d, 0), EK_SUMS_4("+f", d, 1)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.descriptor));
}
#undef EK_ALL_SUMS
#undef EK_PRODUCT_128
#undef EK_SUMS_16
#undef EK_SUMS_4
#endif

/* to += v, where nobody else reads or adds before the kernel ends. From sm_90 on nobody waits for what was
 * there. */
__device__ inline void add_pair(float* to, float2 v) {
#if __CUDA_ARCH__ >= 900
  asm volatile("red.global.add.v2.f32 [%0], {%1, %2};" ::"l"(to), "f"(v.x), "f"(v.y) : "memory");
#else
  float2* pair = reinterpret_cast<float2*>(to);
  *pair = {pair->x + v.x, pair->y + v.y};
#endif
}

/* 2 to the x within 2 units in the last place; below the normal range 0. */
__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/* Lets the next kernel of the stream begin, and waits for the one before; nothing before sm_90. */
__device__ inline void allow_next_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ inline void wait_for_kernel_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace ek::cuda
#endif
#endif
