#pragma once
// Random problems, and each op run on one of them on the host or on the device.
#include "place.h"

namespace fg::check {

/// One random problem, on the host.
struct Case {
  uint64_t seed = 0;
  DType dtype = DType::f32;
  int64_t vocab = 1, rows = 1, sequences = 1, base = 0;
  Rows shape;  // of the logits; data null
  int64_t grad_base = 0;
  Rows grad_shape;
  Bytes logits, grad;
  std::vector<int32_t> offsets, targets, groups;
  std::vector<uint8_t> mask, truncated;
  std::vector<float> old_logps, ref_logps, sampler_logps, advantages, grad_logps, grad_entropies, logps, entropies;
  std::vector<double> rewards;
  AdvantageOptions options;
  LossParams params;
  double temperature = 1, normalizer = 1, entropy_weight = 0;
  bool per_token = false, entropy = false;

  Layout layout(Place& p) const { return {rows, sequences, p.in(offsets), p.in(mask), p.in(truncated)}; }
  int64_t sequence_of(int64_t row) const;
  int64_t length_of(int64_t sequence) const;
  /// Whether grpo_loss makes its advantages from rewards.
  bool two_phases() const { return needs_sequences(params, old_logps.empty()); }
  bool fused() const { return !rewards.empty() && !per_token; }
  /// The first element of a row in a matrix of that shape.
  int64_t at(const Rows& r, int64_t row) const;
  bool selected(int64_t row) const;
};

/// By the seed alone; the format is seed % 3.
Case make_case(uint64_t seed, int64_t vocab);

struct Result {
  Status status;
  PolicyMetrics metrics;
  std::vector<float> logps, lse, entropies, advantages, mean, std, grad_logps, grad_entropies;
  std::vector<uint8_t> zero_std;
  Bytes grad;  // with whatever lies between the rows
};

Result run_logp(const Case& c, bool device);
Result run_backward(const Case& c, bool device, bool in_place);
Result run_policy(const Case& c, bool device);
Result run_advantages(const Case& c, bool device);
Result run_grpo(const Case& c, bool device, bool in_place);

}  // namespace fg::check
