// Rotary frequencies, computed with the operations and the precision (float32) of transformers/modeling_rope_utils.py,
// so that the angles agree to the last bit: at position 8192 one float32 ulp of a frequency is an angle of 5e-4.
#include "torch/model/rope.h"

#include <cmath>
#include <numbers>

namespace fg {

namespace {

at::Tensor pos_freqs(const RopeConfig& c, int64_t dim) {
  const at::Tensor exponent = at::arange(0, dim, 2, at::kLong).to(at::kFloat) / dim;
  return at::pow(at::Scalar(c.theta), exponent);
}

at::Tensor llama3(const RopeConfig& c, const at::Tensor& inv_freq) {
  const at::Tensor wavelength = 2 * std::numbers::pi / inv_freq;
  const double low = c.original_max_positions / c.low_freq_factor, high = c.original_max_positions / c.high_freq_factor;
  const at::Tensor scaled = at::where(wavelength > low, inv_freq / c.factor, inv_freq);
  const at::Tensor smooth =
      (c.original_max_positions / wavelength - c.low_freq_factor) / (c.high_freq_factor - c.low_freq_factor);
  const at::Tensor mixed = (1 - smooth) * scaled / c.factor + smooth * scaled;
  return at::where(at::logical_not(wavelength < high).logical_and(at::logical_not(wavelength > low)), mixed, scaled);
}

/// The dimension whose wavelength fits `rotations` times into the original context.
double correction_dim(const RopeConfig& c, int64_t dim, double rotations) {
  return dim * std::log(c.original_max_positions / (rotations * 2 * std::numbers::pi)) / (2 * std::log(c.theta));
}

at::Tensor yarn(const RopeConfig& c, int64_t dim) {
  const at::Tensor freqs = pos_freqs(c, dim);
  double low = correction_dim(c, dim, c.beta_fast), high = correction_dim(c, dim, c.beta_slow);
  if (c.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  const at::Tensor ramp = at::clamp((at::arange(dim / 2, at::kFloat) - low) / (high - low), 0, 1);
  const at::Tensor keep = 1 - ramp;
  return (1.0 / (c.factor * freqs)) * (1 - keep) + (1.0 / freqs) * keep;
}

at::Tensor frequencies(const RopeConfig& c, int64_t dim) {
  switch (c.type) {
    case RopeConfig::Type::linear:
      return (1.0 / pos_freqs(c, dim)) / c.factor;
    case RopeConfig::Type::llama3:
      return llama3(c, 1.0 / pos_freqs(c, dim));
    case RopeConfig::Type::yarn:
      return yarn(c, dim);
    default:
      return 1.0 / pos_freqs(c, dim);
  }
}

}  // namespace

RopeTable::RopeTable(const RopeConfig& config, int64_t head_dim) : inv_freq_(frequencies(config, head_dim)) {
  if (config.type == RopeConfig::Type::yarn) attention_factor_ = config.attention_factor;
  reserve(256);
}

void RopeTable::reserve(int64_t positions) {
  if (!inv_freq_.defined() || (cos_.defined() && cos_.size(0) >= positions)) return;
  int64_t size = 256;
  while (size < positions) size *= 2;
  // A generation may be what grows it, and training then keeps the table for its gradient: a tensor made in inference
  // mode could not be kept.
  const c10::InferenceMode normal(false);
  const at::NoGradGuard no_grad;
  const at::Tensor angles = at::arange(size, at::kLong).to(at::kFloat).unsqueeze(1) * inv_freq_;
  cos_ = angles.cos() * attention_factor_;
  sin_ = angles.sin() * attention_factor_;
}

}  // namespace fg
