// The functions of libcudart that muster calls, each with muster's own declaration; a test compares them with NVIDIA's header.
#ifndef MUSTER_RUNTIME_DEVICE_CUDA_FUNCTIONS_H_
#define MUSTER_RUNTIME_DEVICE_CUDA_FUNCTIONS_H_

#include <cstddef>
#include <cstdint>

namespace muster {

// cudaPointerAttributes: CUDA 13 has added reserved words at its end, and a later one may add more.
struct CudaPointerAttributes {
  int type = 0;
  int device = 0;
  void* device_pointer = nullptr;
  void* host_pointer = nullptr;
  int64_t reserved[32] = {};
};

// F(name, type of a pointer to it)
#define MUSTER_CUDA_FUNCTIONS(F)                                            \
  F(cudaGetDeviceCount, int (*)(int*))                                      \
  F(cudaSetDevice, int (*)(int))                                            \
  F(cudaGetDevice, int (*)(int*))                                           \
  F(cudaDeviceGetPCIBusId, int (*)(char*, int, int))                        \
  F(cudaMalloc, int (*)(void**, size_t))                                    \
  F(cudaFree, int (*)(void*))                                               \
  F(cudaMallocHost, int (*)(void**, size_t))                                \
  F(cudaFreeHost, int (*)(void*))                                           \
  F(cudaHostRegister, int (*)(void*, size_t, unsigned))                     \
  F(cudaHostUnregister, int (*)(void*))                                     \
  F(cudaPointerGetAttributes, int (*)(CudaPointerAttributes*, const void*)) \
  F(cudaStreamCreateWithFlags, int (*)(void**, unsigned))                   \
  F(cudaStreamDestroy, int (*)(void*))                                      \
  F(cudaMemcpyAsync, int (*)(void*, const void*, size_t, int, void*))       \
  F(cudaMemsetAsync, int (*)(void*, int, size_t, void*))                    \
  F(cudaEventCreateWithFlags, int (*)(void**, unsigned))                    \
  F(cudaEventDestroy, int (*)(void*))                                       \
  F(cudaEventRecord, int (*)(void*, void*))                                 \
  F(cudaEventQuery, int (*)(void*))                                         \
  F(cudaStreamWaitEvent, int (*)(void*, void*, unsigned))                   \
  F(cudaStreamQuery, int (*)(void*))                                        \
  F(cudaStreamSynchronize, int (*)(void*))                                  \
  F(cudaGetLastError, int (*)())                                            \
  F(cudaGetErrorName, const char* (*)(int))                                 \
  F(cudaGetErrorString, const char* (*)(int))                               \
  F(cudaRuntimeGetVersion, int (*)(int*))                                   \
  F(cudaDriverGetVersion, int (*)(int*))

}  // namespace muster

#endif  // MUSTER_RUNTIME_DEVICE_CUDA_FUNCTIONS_H_
