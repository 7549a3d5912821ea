/* Marks inline functions that kernels and host tests share. */
#ifndef EK_CUDA_DEVICE_HOST_DEVICE_H
#define EK_CUDA_DEVICE_HOST_DEVICE_H
#ifdef __CUDACC__
#define EK_HD __host__ __device__
#else
#define EK_HD
#endif
#endif
