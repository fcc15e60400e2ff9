// The device that the simulator claims to be, and the numbers that it computes less exactly than the host would.
#include <bit>
#include <cmath>

#include "simulator/hooks.h"

namespace fg::sim {

namespace {
cuda::Device current = preset("sm_90");
}

cuda::Device preset(const std::string& arch, int multiprocessors) {
  cuda::Device d;
  if (arch == "sm_80") {
    d.major = 8, d.multiprocessors = 108;
    d.shared_per_block = 163 * 1024, d.shared_per_multiprocessor = 164 * 1024, d.l2_bytes = size_t(40) << 20;
  } else if (arch == "sm_90") {
    d.major = 9, d.multiprocessors = 132;
    d.shared_per_block = 227 * 1024, d.shared_per_multiprocessor = 228 * 1024, d.l2_bytes = size_t(50) << 20;
  } else {
    throw Violation("bad argument", "unknown architecture " + arch);
  }
  if (multiprocessors > 0) d.multiprocessors = multiprocessors;
  return d;
}

void set_device(const cuda::Device& d) { current = d; }
const cuda::Device& device() { return current; }

int64_t resident(const cuda::Shape& s) {
  const int64_t by_threads = 2048 / (s.threads > 0 ? s.threads : 2048);
  const int64_t by_shared = int64_t(current.shared_per_multiprocessor / (s.shared + 1024));
  const int64_t blocks = std::min<int64_t>(std::min(by_threads, by_shared), 32) * current.multiprocessors;
  return std::max<int64_t>(1, blocks / s.cluster);
}

/// ex2.approx.ftz: denormals are 0 on both sides; relative error up to 2^-22. The error here is drawn from the
/// argument, below 2^-22.5, so that a kernel that relies on exactness fails.
float approximate_exp2(float x) {
  if (!(std::fabs(x) >= 0x1p-126f)) return x != x ? x : 1.0f;
  if (x < -126.0f) return 0.0f;
  if (x >= 128.0f) return std::numeric_limits<float>::infinity();
  uint64_t h = (std::bit_cast<uint32_t>(x) + seed()) * 0x9E3779B97F4A7C15ull;
  h ^= h >> 32, h *= 0xD6E8FEB86659FD93ull;
  const double error = double(int64_t(h) >> 11) * 0x1p-52 * 0x1p-22 * 0.7071;  // in [-1, 1) * 2^-22.5
  const auto y = float(std::exp2(double(x)) * (1 + error));
  return y < 0x1p-126f ? 0.0f : y;
}

}  // namespace fg::sim

namespace fg::cuda {
Device current_device() { return sim::device(); }
}  // namespace fg::cuda
