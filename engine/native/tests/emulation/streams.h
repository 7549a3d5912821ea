/* When work of the emulated GPU is done. */
#ifndef EK_TESTS_EMULATION_STREAMS_H
#define EK_TESTS_EMULATION_STREAMS_H
#include "include/cuda_runtime.h"

namespace emulation {

/* Gives work to a stream: into the graph that it is recorded into; at once, where there is one stream; and
 * otherwise in turn, by streams.cpp. Returns what is wrong with the device. */
cudaError_t submit(cudaStream_t stream, std::function<void()> work);

}  // namespace emulation
#endif
