#pragma once
// The arguments that policyLoss, grpoLoss and the unfused reference share, and the errors of their kernels.
#include <cstdio>
#include <string>

#include "addon/common/arguments.h"

namespace fg {

/// Turns a kernel's fault into the error that names the element.
struct Culprits {
  const int32_t* targets = nullptr;
  int64_t vocab = 0;
  const float *old_logps = nullptr, *ref_logps = nullptr, *sampler_logps = nullptr, *logps = nullptr;
  const float* entropies = nullptr;
  const double* rewards = nullptr;
  const int32_t* offsets = nullptr;  // (sequences + 1), of the layout
  int64_t sequences = 0;
  // of kernels/value_ops.h
  const float *token_rewards = nullptr, *values = nullptr, *old_values = nullptr, *returns = nullptr;
  const float *last_values = nullptr, *chosen_rewards = nullptr, *rejected_rewards = nullptr, *margins = nullptr;
  const double *step_rewards = nullptr, *function_rewards = nullptr;
  int64_t completions = 0;  // of each function's rewards
};

/// What a batch holds, for its errors; on the host.
inline Culprits culprits_of(const kernels::PolicyBatch& b) {
  Culprits c;
  c.old_logps = b.old_logps, c.ref_logps = b.ref_logps, c.sampler_logps = b.sampler_logps;
  c.offsets = b.layout.offsets, c.sequences = b.layout.sequences;
  return c;
}

inline std::string number_text(double v) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.9g", v);
  return v != v ? "NaN" : v > 1e308 ? "Infinity" : v < -1e308 ? "-Infinity" : buffer;
}

/// " (sequence 2, token 5)" where there are several sequences.
inline std::string place_of(const Culprits& c, int64_t row) {
  if (!c.offsets || c.sequences < 2) return {};
  const int64_t s = std::upper_bound(c.offsets, c.offsets + c.sequences + 1, int32_t(row)) - c.offsets - 1;
  return " (sequence " + std::to_string(s) + ", token " + std::to_string(row - c.offsets[s]) + ")";
}

[[noreturn]] inline void not_finite(const std::string& element, double value) {
  throw UserError(UserError::Kind::range, "ERR_NON_FINITE",
                  "Expected a finite number for " + element + " but received " + number_text(value));
}

/// The array with the bad element, or null where the fault is none of these.
inline const float* culprit_array(kernels::Fault fault, const Culprits& c, const char** name) {
  using kernels::Fault;
  switch (fault) {
    case Fault::old_logp:
      return *name = "oldLogps", c.old_logps;
    case Fault::ref_logp:
      return *name = "refLogps", c.ref_logps;
    case Fault::sampler_logp:
      return *name = "samplerLogps", c.sampler_logps;
    case Fault::entropy:
      return *name = "entropies", c.entropies;
    case Fault::logp:
      return *name = "logps", c.logps;
    case Fault::token_reward:
      return *name = "rewards", c.token_rewards;
    case Fault::value:
      return *name = "values", c.values;
    case Fault::old_value:
      return *name = "oldValues", c.old_values;
    case Fault::return_value:
      return *name = "returns", c.returns;
    case Fault::chosen_reward:
      return *name = "chosenRewards", c.chosen_rewards;
    case Fault::rejected_reward:
      return *name = "rejectedRewards", c.rejected_rewards;
    case Fault::margin:
      return *name = "margins", c.margins;
    default:
      return nullptr;
  }
}

inline void raise_fault(const kernels::Status& s, const Culprits& c) {
  if (s.ok()) return;
  const std::string row = std::to_string(s.row), at = place_of(c, s.row);
  const char* name = nullptr;
  if (const float* array = culprit_array(s.fault, c, &name)) not_finite(name + ("[" + row + "]") + at, array[s.row]);
  switch (s.fault) {
    case kernels::Fault::target:
      throw UserError(UserError::Kind::range, "ERR_INVALID_ARG",
                      "Expected a token id from 0 to " + std::to_string(c.vocab - 1) + " for targets[" + row + "]" +
                          at + " but received " + std::to_string(c.targets[s.row]));
    case kernels::Fault::advantage:
      throw UserError(UserError::Kind::range, "ERR_NON_FINITE",
                      "Expected finite advantages; position " + row + at + " has one that is not");
    case kernels::Fault::reward:
      not_finite("rewards[" + row + "]", c.rewards[s.row]);
    case kernels::Fault::last_value:
      not_finite("lastValues[" + row + "]", c.last_values[s.row]);
    case kernels::Fault::step_reward:
      not_finite("stepRewards[" + row + "]", c.step_rewards[s.row]);
    case kernels::Fault::function_reward:
      not_finite(
          "rewards[" + std::to_string(s.row / c.completions) + "][" + std::to_string(s.row % c.completions) + "]",
          c.function_rewards[s.row]);
    case kernels::Fault::binary_reward:
      throw UserError(UserError::Kind::range, "ERR_INVALID_ARG",
                      "Expected 0 or 1 for rewards[" + row + "] but received " + number_text(c.rewards[s.row]));
    default:
      throw UserError(UserError::Kind::range, "ERR_NON_FINITE",
                      "Expected finite logits (-Infinity masks a token) for row " + row + at +
                          " but found NaN, +Infinity or no finite value in it");
  }
}

/// Rewards in groups, as groupAdvantages and grpoLoss are given them.
struct RewardArguments {
  int64_t count = 0, groups = 0;
  const double* rewards = nullptr;         // (count)
  const int32_t* group_offsets = nullptr;  // (groups + 1)
  AdvantageOptions options;
};

inline RewardArguments reward_arguments(const Arguments& a) {
  RewardArguments r;
  r.count = a.integer("count"), r.groups = a.integer("groups");
  r.rewards = a.required<double>("rewards", r.count);
  r.group_offsets = a.required<int32_t>("groupOffsets", r.groups + 1);
  Arguments::check_offsets("groupOffsets", r.group_offsets, r.groups, r.count);
  r.options.scale = RewardScale(a.integer("scaleRewards"));
  r.options.baseline = Baseline(a.integer("baseline"));
  r.options.transform = RewardTransform(a.integer("transform"));
  r.options.ddof = int(a.integer("ddof"));
  r.options.eps = a.number("eps");
  r.options.exclude_non_finite = a.flag("excludeNonFinite");
  return r;
}

inline kernels::PolicyBatch policy_batch(const Arguments& a) {
  kernels::PolicyBatch b;
  b.layout = a.layout();
  const int64_t n = b.layout.rows;
  b.old_logps = a.array<float>("oldLogps", n);
  b.ref_logps = a.array<float>("refLogps", n);
  b.sampler_logps = a.array<float>("samplerLogps", n);
  b.advantages_per_token = a.flag("advantagesPerToken");
  b.advantages = a.required<float>("advantages", b.advantages_per_token ? n : b.layout.sequences);
  return b;
}

inline LossParams loss_params(const Arguments& a, const kernels::PolicyBatch& b) {
  LossParams p;
  p.loss_type = LossType(a.integer("lossType"));
  p.level = RatioLevel(a.integer("importanceSamplingLevel"));
  p.kl = KlEstimator(a.integer("klEstimator"));
  p.kl_gradient = KlGradient(a.integer("klGradient"));
  p.bias_correction_kl = a.flag("useBiasCorrectionKl");
  p.epsilon_low = a.number("epsilon"), p.epsilon_high = a.number("epsilonHigh");
  p.delta = a.number("delta"), p.dual_clip = a.number("dualClip");
  p.beta = a.number("beta");
  p.sapo_temperature_pos = a.number("sapoTemperaturePos"), p.sapo_temperature_neg = a.number("sapoTemperatureNeg");
  p.vespo_k_pos = a.number("vespoKPos"), p.vespo_lambda_pos = a.number("vespoLambdaPos");
  p.vespo_k_neg = a.number("vespoKNeg"), p.vespo_lambda_neg = a.number("vespoLambdaNeg");
  p.dppo_divergence = Divergence(a.integer("dppoDivergence")), p.dppo_ratio_max = a.number("dppoRatioMax");
  p.clip_cov_ratio = a.number("clipCovRatio"), p.clip_cov_seed = uint32_t(a.integer("clipCovSeed"));
  p.clip_cov_low = a.number("clipCovLow"), p.clip_cov_high = a.number("clipCovHigh");
  p.kl_cov_ratio = a.number("klCovRatio"), p.kl_cov_coef = a.number("klCovCoef");
  p.sampler = SamplerCorrection(a.integer("samplerImportanceSampling"));
  p.sampler_min = a.number("samplerImportanceSamplingClipMin");
  p.sampler_max = a.number("samplerImportanceSamplingClipMax");
  p.off_policy_threshold = a.number("offPolicyMaskThreshold");
  p.top_entropy_quantile = a.number("topEntropyQuantile"), p.entropy_threshold = a.number("entropyThreshold");
  if (b.layout.rows == 0) return p;
  if (p.beta != 0 && !b.ref_logps) Arguments::fail("refLogps", "a Float32Array");
  if (p.sampler != SamplerCorrection::none && !b.sampler_logps) Arguments::fail("samplerLogps", "a Float32Array");
  return p;
}

/// The caller's normalizers, or what this batch alone gives.
inline void set_normalizers(const Arguments& a, const LossParams& p, kernels::PolicyBatch* b) {
  kernels::Normalizers n;
  n.normalizer = a.number("normalizer"), n.entropy_normalizer = a.number("entropyNormalizer");
  n.max_completion_length = a.number("maxCompletionLength"), n.exclude_empty = a.flag("excludeEmpty");
  n.entropy_coef = a.number("entropyCoef");
  kernels::set_normalizers(n, p, b);
}

inline Napi::Object metrics_object(Napi::Env env, const kernels::PolicyMetrics& m) {
  auto o = Napi::Object::New(env);
  const auto set = [&](const char* name, double v) { o.Set(name, Napi::Number::New(env, v)); };
  set("loss", m.loss), set("kl", m.kl), set("entropy", m.entropy), set("ratio", m.ratio);
  set("ratioMin", m.ratio_min), set("ratioMax", m.ratio_max);
  set("tokens", double(m.tokens)), set("sequences", double(m.sequences));
  set("clippedLow", double(m.clipped_low)), set("clippedHigh", double(m.clipped_high));
  return o;
}

}  // namespace fg
