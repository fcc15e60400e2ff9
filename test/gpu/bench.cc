// How long the fused op and the forward pass take, beside a copy of the same matrix.
#include <algorithm>
#include <cstdio>

#include "matrices.h"
#include "parts.h"

namespace fg::check {
namespace {

double median(std::vector<float> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

class Timer {
 public:
  Timer() {
    MUST(cudaEventCreate(&start_));
    MUST(cudaEventCreate(&stop_));
  }
  Timer(const Timer&) = delete;
  ~Timer() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
  }
  template <class Work>
  float milliseconds(Work work) const {
    MUST(cudaEventRecord(start_));
    work();
    MUST(cudaEventRecord(stop_));
    MUST(cudaEventSynchronize(stop_));
    float ms = 0;
    MUST(cudaEventElapsedTime(&ms, start_, stop_));
    return ms;
  }

 private:
  cudaEvent_t start_, stop_;
};

struct Measured {
  const char* dtype;
  int64_t vocab, rows;
  double copy, grpo, logp;  // ms
  double both;              // 1e-9 of the bytes that reading and writing the matrix moves: divided by ms it is TB/s
  bool good;                // no pass found a fault
};

const char* name_of(DType dtype) { return dtype == DType::f32 ? "f32" : "bf16"; }

/// As many rows as fit, the matrix and its copy being of the same size, up to what a training step has.
int64_t rows_that_fit(DType dtype, int64_t row_bytes) {
  size_t free_bytes = 0, total = 0;
  MUST(cudaMemGetInfo(&free_bytes, &total));
  const int64_t most = dtype == DType::f32 ? 8192 : 32768;
  return std::min<int64_t>(most, int64_t(0.6 * double(free_bytes)) / (2 * row_bytes) / 8 * 8);
}

Measured measure(const Timer& timer, DType dtype, int64_t vocab) {
  const int64_t row = vocab * size_of(dtype), rows = rows_that_fit(dtype, row);
  const size_t bytes = size_t(rows * row);
  const Bytes pattern = pattern_of(dtype, 5, vocab);
  Problem p(dtype, rows, vocab);
  Buffer other(bytes);
  std::vector<float> copy, grpo, logp;
  bool good = true;
  fill_matrix(p.logits.p, pattern, rows, row);
  for (int i = -3; i < 20; ++i) {  // the first three warm up; later passes work on gradients, which cost the same
    const float a =
        timer.milliseconds([&] { MUST(cudaMemcpyAsync(other.p, p.logits.p, bytes, cudaMemcpyDeviceToDevice)); });
    const float b = timer.milliseconds([&] { launched(p.forward()); });
    const float c = timer.milliseconds([&] { launched(p.grpo(0, rows)); });
    good = good && p.read().status.ok();
    if (i >= 0) copy.push_back(a), logp.push_back(b), grpo.push_back(c);
  }
  return {name_of(dtype), vocab, rows, median(copy), median(grpo), median(logp), 2e-9 * double(bytes), good};
}

void print_header(const char* device) {
  std::printf("%s; median of 20, by CUDA events; TB/s of bytes read and written\n", device);
  std::printf("%-5s %7s %6s %10s %9s %7s %9s %7s %7s %9s %7s\n", "dtype", "vocab", "rows", "copy ms", "TB/s", "",
              "grpo ms", "TB/s", "of copy", "logp ms", "TB/s");
}

void print_row(const Measured& m) {
  std::printf("%-5s %7lld %6lld %10.3f %9.3f %7s %9.3f %7.3f %6.1f%% %9.3f %7.3f%s\n", m.dtype, (long long)m.vocab,
              (long long)m.rows, m.copy, m.both / m.copy, "", m.grpo, m.both / m.grpo, 100 * m.copy / m.grpo, m.logp,
              m.both / 2 / m.logp, m.good ? "" : "  FAULT");
  std::fflush(stdout);
}

/// bench.py reads these.
void write_json(FILE* file, const char* device, const Measured& m) {
  std::fprintf(
      file,
      "{\"what\":\"fused-grpo\",\"device\":\"%s\",\"dtype\":\"%s\",\"vocab\":%lld,\"rows\":%lld,\"copy_ms\":%.5f,"
      "\"grpo_ms\":%.5f,\"logp_ms\":%.5f,\"grpo_tb_s\":%.4f,\"copy_tb_s\":%.4f,\"logp_tb_s\":%.4f,\"share_of_"
      "copy\":%.4f}\n",
      device, m.dtype, (long long)m.vocab, (long long)m.rows, m.copy, m.grpo, m.logp, m.both / m.grpo, m.both / m.copy,
      m.both / 2 / m.logp, m.copy / m.grpo);
}

}  // namespace

int bench(const char* path) {
  FILE* file = path ? std::fopen(path, "a") : nullptr;
  cudaDeviceProp device;
  MUST(cudaGetDeviceProperties(&device, 0));
  const Timer timer;
  print_header(device.name);
  const double begun = seconds();
  for (const DType dtype : {DType::bf16, DType::f32})
    for (const int64_t vocab : {32000, 128256, 151936, 262144}) {
      if (seconds() - begun > 50) {
        std::printf("%s %lld: not measured, out of time\n", name_of(dtype), (long long)vocab);
        continue;
      }
      const Measured m = measure(timer, dtype, vocab);
      ++(m.good ? passed : failed);
      print_row(m);
      if (file) write_json(file, device.name, m);
    }
  if (file) std::fclose(file);
  return finish("bench");
}

}  // namespace fg::check
