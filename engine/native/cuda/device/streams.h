/* Work beside the device's own stream. */
#ifndef EK_CUDA_DEVICE_STREAMS_H
#define EK_CUDA_DEVICE_STREAMS_H
#include "error.h"

namespace ek::cuda {

/* A stream whose blocks come before those that the device's stream has waiting. */
class UrgentStream {
 public:
  UrgentStream() {
    int least = 0, greatest = 0;
    check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "asking for priorities");
    check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest), "creating a stream");
  }
  ~UrgentStream() { cudaStreamDestroy(stream_); }
  UrgentStream(const UrgentStream&) = delete;
  UrgentStream& operator=(const UrgentStream&) = delete;

  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/* A place in one stream that another waits for. */
class StreamEvent {
 public:
  StreamEvent() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "creating an event"); }
  ~StreamEvent() { cudaEventDestroy(event_); }
  StreamEvent(const StreamEvent&) = delete;
  StreamEvent& operator=(const StreamEvent&) = delete;

  /* What `later` gets from now on begins when all that `earlier` has got so far has ended. */
  void order(cudaStream_t earlier, cudaStream_t later) {
    record(earlier);
    hold(later);
  }
  void record(cudaStream_t earlier) { check(cudaEventRecord(event_, earlier), "recording an event"); }
  /* As order, of what had been given to the stream at the last record. */
  void hold(cudaStream_t later) { check(cudaStreamWaitEvent(later, event_, 0), "waiting for an event"); }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace ek::cuda
#endif
