#include "support.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/cpu/convert.h"

namespace fg::check {

bool quick = false;
int passed = 0, failed = 0;

void must(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  std::printf("%s: %s\n", what, cudaGetErrorString(e));
  std::exit(4);
}

void launched(const cuda::Launch& l) {
  if (l.ok()) return;
  std::printf("launch of %s failed: %s\n", l.what, cudaGetErrorString(cudaError_t(l.code)));
  std::exit(4);
}

int finish(const char* part) {
  std::printf("%s: %d passed, %d failed\n", part, passed, failed);
  return failed ? 1 : 0;
}

double seconds() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

std::string text(const char* format, ...) {
  char buffer[300];
  va_list list;
  va_start(list, format);
  std::vsnprintf(buffer, sizeof buffer, format, list);
  va_end(list);
  return buffer;
}

std::vector<const char*> variants_here() {
  if (cuda::current_device().major >= 9) return {"block", "cluster"};
  return {"block"};
}

float get(const void* p, DType t, int64_t i) {
  if (t == DType::f32) return static_cast<const float*>(p)[i];
  uint16_t h;
  std::memcpy(&h, static_cast<const char*>(p) + 2 * i, 2);
  return t == DType::bf16 ? bf16_to_float(h) : f16_to_float(h);
}

void put(void* p, DType t, int64_t i, float v) {
  if (t == DType::f32) {
    static_cast<float*>(p)[i] = v;
    return;
  }
  const uint16_t h = t == DType::bf16 ? float_to_bf16(v) : float_to_f16(v);
  std::memcpy(static_cast<char*>(p) + 2 * i, &h, 2);
}

double ulp(DType t, double v) {
  if (t == DType::f32) return std::ldexp(1.0, std::max(std::ilogb(std::max(std::abs(v), 1e-38)) - 23, -149));
  const int e = std::ilogb(std::max(std::abs(v), 1e-30));
  return t == DType::bf16 ? std::ldexp(1.0, std::max(e - 7, -133)) : std::ldexp(1.0, std::max(e - 10, -24));
}

}  // namespace fg::check
