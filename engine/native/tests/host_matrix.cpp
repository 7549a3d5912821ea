#include "host_matrix.h"

#include <algorithm>
#include <cmath>

#include "../cuda/device/memory.h"

namespace ek::test {

std::vector<float> read_floats(const float* device, size_t n) {
  std::vector<float> out(n);
  cuda::check(cudaMemcpy(out.data(), device, n * sizeof(float), cudaMemcpyDeviceToHost), "reading weights");
  return out;
}

HostMatrix read_matrix(const cuda::WeightView& w) {
  HostMatrix out{w.n_rows, w.n_cols, {}};
  if (w.data == nullptr) return out;
  const WeightShape shape{w.type, w.n_matrices, w.n_rows, w.n_cols};
  std::vector<uint64_t> planes(cuda::packed_bytes(shape) / 8);
  cuda::check(cudaMemcpy(planes.data(), w.data, planes.size() * 8, cudaMemcpyDeviceToHost),
              "reading weights");
  const cuda::WeightView host = cuda::view_planes(shape, reinterpret_cast<const uint8_t*>(planes.data()));
  for (int32_t i = 0; i < w.n_matrices * w.n_rows; i++) {
    const size_t r = host.row(i / w.n_rows, i % w.n_rows);
    for (int32_t unit = 0; unit * 8 < w.n_cols; unit++) {
      float v[8];
      cuda::for_type(w.type, [&]<ek_type F>() { cuda::load_unit<F>(host, r, unit, v); });
      out.values.insert(out.values.end(), v, v + std::min(8, w.n_cols - unit * 8));
    }
  }
  return out;
}

std::vector<double> HostMatrix::times(int32_t m, const std::vector<double>& x) const {
  std::vector<double> y;
  for (int32_t r = 0; r < n_rows; r++)
    y.push_back(dot(x.data(), row(m * n_rows + r), static_cast<size_t>(n_cols)));
  return y;
}

std::vector<double> normed(const std::vector<double>& x, const std::vector<float>& norm, double eps) {
  const double scale = 1 / std::sqrt(dot(x.data(), x.data(), x.size()) / static_cast<double>(x.size()) + eps);
  std::vector<double> out;
  for (size_t i = 0; i < x.size(); i++) out.push_back(x[i] * scale * norm[i]);
  return out;
}

std::vector<double> softmax(std::vector<double> s) {
  const double top = *std::max_element(s.begin(), s.end());
  double sum = 0;
  for (double& v : s) sum += v = std::exp(v - top);
  for (double& v : s) v /= sum;
  return s;
}

std::vector<double> gated(const HostMatrix& gate, const HostMatrix& up, const HostMatrix& down, int32_t m,
                          const std::vector<double>& h) {
  std::vector<double> g = gate.times(m, h);
  const std::vector<double> u = up.times(m, h);
  for (size_t i = 0; i < g.size(); i++) g[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
  return down.times(m, g);
}

}  // namespace ek::test
