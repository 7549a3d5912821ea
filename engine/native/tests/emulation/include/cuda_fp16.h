/* Stands in for the header of the CUDA toolkit: halves are only loaded, converted and stored. */
#ifndef EK_TESTS_EMULATION_CUDA_FP16_H
#define EK_TESTS_EMULATION_CUDA_FP16_H
#include "../../../core/quant.h"
#include "emulated_device.h"

struct __half {
  uint16_t bits;
};
inline float __half2float(__half h) { return ek::f16_to_f32(h.bits); }
inline __half __float2half_rn(float f) { return {ek::f32_to_f16(f)}; }
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }

#endif
