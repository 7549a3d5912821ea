/* Streams, events and graphs. Work is done when a call returns, unless there is a stream with a priority:
 * then work waits until somebody waits for it, and one of the streams runs ahead as far as events allow:
 * another one each time, so that a missing event shows as other results in one of two runs, and what nobody
 * waited for has not happened. */
#include "streams.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <vector>

/* A place in a stream: behind its first n pieces of work. */
struct StreamPlace {
  EmulatedStream* stream = nullptr;
  uint64_t n = 0;
};
struct EmulatedGraph {
  std::vector<std::function<void()>> work;
  std::vector<EmulatedStream*> streams; /* while it is recorded */
};
struct EmulatedStream {
  struct Work {
    std::function<void()> run; /* or wait: */
    StreamPlace behind;
  };
  std::deque<Work> waiting;
  uint64_t n_given = 0, n_done = 0;
  bool has_priority = false;
  EmulatedGraph* recording = nullptr;
  uint64_t n_joined = 0; /* of n_given, while it is recorded: what another stream waits for */
};
struct EmulatedEvent {
  std::chrono::steady_clock::time_point time;
  StreamPlace place;
};

namespace {

std::vector<EmulatedStream*> streams;
unsigned n_waits = 0;

/* Does the stream's work up to the first that must wait; whether there was any. */
bool run_ahead(EmulatedStream& s) {
  const uint64_t before = s.n_done;
  while (!s.waiting.empty()) {
    const EmulatedStream::Work& next = s.waiting.front();
    if (next.behind.stream != nullptr && next.behind.stream->n_done < next.behind.n) break;
    if (next.run) next.run();
    s.waiting.pop_front();
    s.n_done++;
  }
  return s.n_done != before;
}

cudaError_t wait_for(const StreamPlace& place) {
  if (place.stream == nullptr || place.stream->n_done >= place.n) return cudaGetLastError();
  std::vector<EmulatedStream*> order = streams;
  if (n_waits++ % 2 == 0) std::reverse(order.begin(), order.end());
  while (place.stream->n_done < place.n) {
    if (std::none_of(order.begin(), order.end(), [](EmulatedStream* s) { return run_ahead(*s); }))
      emulation::fail("streams wait for each other");
  }
  return cudaGetLastError();
}

bool work_waits() {
  return std::any_of(streams.begin(), streams.end(), [](EmulatedStream* s) { return s->has_priority; });
}

}  // namespace

namespace emulation {

cudaError_t submit(cudaStream_t stream, std::function<void()> work) {
  if (stream == nullptr || (stream->recording == nullptr && !work_waits())) {
    work();
    return cudaGetLastError();
  }
  stream->n_given++;
  if (stream->recording != nullptr) {
    stream->n_done++;
    stream->recording->work.push_back(std::move(work));
    return cudaSuccess;
  }
  stream->waiting.push_back({std::move(work), {}});
  return cudaGetLastError();
}

}  // namespace emulation

cudaError_t cudaDeviceSynchronize() {
  for (EmulatedStream* s : streams) wait_for({s, s->n_given});
  return cudaGetLastError();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new EmulatedStream;
  streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  cudaStreamCreateWithFlags(stream, flags);
  (*stream)->has_priority = true;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  cudaDeviceSynchronize();
  streams.erase(std::find(streams.begin(), streams.end(), stream));
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return stream == nullptr ? cudaGetLastError() : wait_for({stream, stream->n_given});
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  EmulatedStream* before = event->place.stream;
  if (before == nullptr || before == stream) return cudaSuccess;
  if (before->recording == nullptr) {
    if (stream->recording != nullptr) return cudaErrorStreamCaptureIsolation;
    stream->n_given++;
    stream->waiting.push_back({{}, event->place});
    return cudaSuccess;
  }
  before->n_joined = std::max(before->n_joined, event->place.n);
  if (stream->recording != nullptr) return cudaSuccess;
  stream->recording = before->recording;
  stream->n_joined = stream->n_given;
  stream->recording->streams.push_back(stream);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new EmulatedEvent;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return cudaEventCreate(event); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->time = std::chrono::steady_clock::now();
  event->place = {stream, stream == nullptr ? 0 : stream->n_given};
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return wait_for(event->place); }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t begin, cudaEvent_t end) {
  *ms = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->recording = new EmulatedGraph{{}, {stream}};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = stream->recording;
  cudaError_t result = cudaSuccess;
  for (EmulatedStream* s : (*graph)->streams) {
    s->recording = nullptr;
    if (s != stream && s->n_joined < s->n_given) result = cudaErrorStreamCaptureUnjoined;
  }
  return result;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
  *out = new EmulatedGraph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  for (const std::function<void()>& work : graph->work) emulation::submit(stream, work);
  return cudaGetLastError();
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}
