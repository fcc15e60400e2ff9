#pragma once
// What every part of gpu-check uses: counting, CUDA errors, random numbers, single elements of a matrix.
#include <cuda_runtime.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda/ops.h"

namespace fg::check {

using namespace fg::kernels;
using Bytes = std::vector<unsigned char>;

extern bool quick;  // few, small cases, for compute-sanitizer
extern int passed, failed;

/// Ends the program: after a CUDA error nothing that follows means anything.
void must(cudaError_t e, const char* what);
#define MUST(call) ::fg::check::must(call, #call)
void launched(const cuda::Launch& l);

/// Prints the part's counts; its exit code.
int finish(const char* part);
double seconds();
std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));

/// The kernels that this device can be made to use.
std::vector<const char*> variants_here();

inline const Context kStream{nullptr, nullptr};

struct Random {
  uint64_t s;
  uint32_t bits() {
    s = s * 6364136223846793005ull + 1442695040888963407ull;
    return uint32_t(s >> 32) ^ uint32_t(s >> 51);
  }
  double unit() { return bits() * 0x1p-32; }
  int64_t below(int64_t n) { return int64_t(unit() * double(n)); }
  double near(double v) { return v + 0.04 * (unit() - 0.5); }
  bool chance(double p) { return unit() < p; }
  double normal() { return unit() + unit() + unit() + unit() - 2; }  // nearly: variance 1/3
};

/// Element i of an array of that format.
float get(const void* p, DType t, int64_t i);
void put(void* p, DType t, int64_t i, float v);
/// The distance between neighbours of the format at v.
double ulp(DType t, double v);

}  // namespace fg::check
