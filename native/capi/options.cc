#include "capi/options.h"

#include <algorithm>

namespace fg::capi {
namespace {

constexpr const char* kLossTypes =
    "FG_GRPO, FG_BNPO, FG_DR_GRPO, FG_DAPO, FG_CISPO, FG_SAPO, FG_VESPO, FG_LUSPO, FG_GMPO, FG_REINFORCE, FG_DPPO, "
    "FG_CLIP_COV, FG_KL_COV";
constexpr const char* kSamplers =
    "FG_SAMPLER_NONE, FG_SAMPLER_TOKEN_TRUNCATE, FG_SAMPLER_TOKEN_MASK, FG_SAMPLER_SEQUENCE_TRUNCATE, "
    "FG_SAMPLER_SEQUENCE_MASK";

const Bounds kFrom0{.min = 0}, kAbove0{.above = 0}, kShare{.above = 0, .max = 1}, kAny{};

std::string type_name(LossType type) {
  std::string names = kLossTypes;
  size_t begin = 0;
  for (int i = 0; i < int(type); ++i) begin = names.find(", ", begin) + 2;
  return names.substr(begin, names.find(',', begin) - begin);
}

/// Whether the surrogate is PPO's clip.
bool clips(LossType t) {
  return t == LossType::grpo || t == LossType::bnpo || t == LossType::dr_grpo || t == LossType::dapo ||
         t == LossType::luspo || t == LossType::clip_cov;
}

/// Whether the loss type says itself what a token's ratio is, or has none.
bool token_level(LossType t) {
  return t == LossType::vespo || t == LossType::gmpo || t == LossType::reinforce || t == LossType::dppo ||
         chooses_by_covariance(t);
}

void set_choices(const fg_loss_options& o, LossParams* p) {
  p->loss_type = LossType(choice("loss_type", o.loss_type, 13, kLossTypes));
  p->level = RatioLevel(choice("importance_sampling_level", o.importance_sampling_level, 3,
                               "FG_LEVEL_TOKEN, FG_LEVEL_SEQUENCE, FG_LEVEL_SEQUENCE_TOKEN"));
  p->kl = KlEstimator(choice("kl_estimator", o.kl_estimator, 3, "FG_K1, FG_K2, FG_K3"));
  p->kl_gradient =
      KlGradient(choice("kl_gradient", o.kl_gradient, 3,
                        "FG_KL_GRADIENT_ESTIMATOR, FG_KL_GRADIENT_STRAIGHT_THROUGH, FG_KL_GRADIENT_SCORE_FUNCTION"));
  p->sampler = SamplerCorrection(choice("sampler_importance_sampling", o.sampler_importance_sampling, 5, kSamplers));
  p->dppo_divergence =
      Divergence(choice("dppo_divergence", o.dppo_divergence, 2, "FG_DIVERGENCE_TV, FG_DIVERGENCE_KL"));
  p->bias_correction_kl = o.use_bias_correction_kl == -1 ? p->kl_gradient == KlGradient::estimator
                                                         : flag("use_bias_correction_kl", o.use_bias_correction_kl);
}

void set_bounds(const fg_loss_options& o, LossParams* p) {
  if (p->loss_type == LossType::cispo && !is_set(o.epsilon_high))
    invalid({"epsilon_high"}, "a number (FG_CISPO needs it: the upper bound of the ratio itself, 5 for example)",
            "FG_UNSET");
  p->epsilon_low = optional_number("epsilon", o.epsilon, p->loss_type == LossType::gmpo ? 0.4 : 0.2, kFrom0);
  p->epsilon_high = optional_number("epsilon_high", o.epsilon_high, p->epsilon_low, kFrom0);
  p->delta = optional_number("delta", o.delta, kUnbounded, kAbove0);
  p->dual_clip = optional_number("dual_clip", o.dual_clip, kUnbounded, {.above = 1});
  p->sampler_max = number("sampler_clip_max", o.sampler_clip_max, kAbove0);
  p->sampler_min = optional_number("sampler_clip_min", o.sampler_clip_min, -kUnbounded, kFrom0);
  if (p->sampler_min > p->sampler_max)
    invalid({"sampler_clip_min"}, "at most " + number_text(p->sampler_max) + ", sampler_clip_max,",
            number_text(p->sampler_min));
  p->off_policy_threshold = optional_number("off_policy_mask_threshold", o.off_policy_mask_threshold, kUnbounded);
  p->top_entropy_quantile = number("top_entropy_quantile", o.top_entropy_quantile, {.min = 0, .max = 1});
  p->entropy_threshold = optional_number("entropy_threshold", o.entropy_threshold, -kUnbounded);
}

void set_numbers(const fg_loss_options& o, LossParams* p) {
  p->beta = number("beta", o.beta, kFrom0);
  p->sapo_temperature_pos = number("sapo_temperature_pos", o.sapo_temperature_pos, kAbove0);
  p->sapo_temperature_neg = number("sapo_temperature_neg", o.sapo_temperature_neg, kAbove0);
  p->vespo_k_pos = number("vespo_k_pos", o.vespo_k_pos, kFrom0);
  p->vespo_lambda_pos = number("vespo_lambda_pos", o.vespo_lambda_pos, kFrom0);
  p->vespo_k_neg = number("vespo_k_neg", o.vespo_k_neg, kFrom0);
  p->vespo_lambda_neg = number("vespo_lambda_neg", o.vespo_lambda_neg, kFrom0);
  p->dppo_ratio_max = number("dppo_ratio_max", o.dppo_ratio_max, kAbove0);
  p->clip_cov_ratio = number("clip_cov_ratio", o.clip_cov_ratio, kShare);
  p->clip_cov_low = number("clip_cov_low", o.clip_cov_low, kAny);
  p->clip_cov_high = number("clip_cov_high", o.clip_cov_high, kAny);
  p->clip_cov_seed = o.clip_cov_seed;
  p->kl_cov_ratio = number("kl_cov_ratio", o.kl_cov_ratio, kShare);
  p->kl_cov_coef = number("kl_cov_coef", o.kl_cov_coef, kFrom0);
}

void set_normalizers(const fg_loss_options& o, LossType type, kernels::Normalizers* n) {
  n->normalizer = optional_number("normalizer", o.normalizer, 0, kAbove0);
  n->entropy_coef = number("entropy_coef", o.entropy_coef);
  n->entropy_normalizer = optional_number("entropy_normalizer", o.entropy_normalizer, 0, kAbove0);
  n->exclude_empty = flag("exclude_empty_sequences", o.exclude_empty_sequences);
  n->max_completion_length = double(count("max_completion_length", o.max_completion_length));
  if (type == LossType::dr_grpo && n->normalizer == 0 && n->max_completion_length == 0)
    invalid({"max_completion_length"}, "at least 1 (FG_DR_GRPO without a normalizer needs it)", "0");
}

/// Options that cannot go together, and why.
void refuse_combinations(const fg_loss_options& o, const LossParams& p) {
  const std::string type = type_name(p.loss_type);
  if (p.loss_type == LossType::luspo && p.level != RatioLevel::sequence)
    incompatible(
        "FG_LUSPO needs importance_sampling_level FG_LEVEL_SEQUENCE: it weighs a sequence's one ratio by its length");
  if (p.level != RatioLevel::token && token_level(p.loss_type))
    incompatible(type + " has FG_LEVEL_TOKEN as importance_sampling_level only: it defines its own weight of a token");
  const auto clipped_only = [&](const char* name, double value) {
    if (is_set(value) && !clips(p.loss_type))
      incompatible(std::string(name) + " bounds a clipped ratio; " + type + " has none");
  };
  clipped_only("delta", o.delta), clipped_only("dual_clip", o.dual_clip);
  if (p.loss_type == LossType::vespo && corrects_by_sequence(p.sampler))
    incompatible(
        "FG_VESPO takes FG_SAMPLER_TOKEN_TRUNCATE or FG_SAMPLER_TOKEN_MASK as sampler_importance_sampling: it "
        "multiplies token weights itself");
  if (p.top_entropy_quantile < 1 && is_set(o.entropy_threshold))
    incompatible("Give either top_entropy_quantile or entropy_threshold, not both");
  if (p.kl_gradient == KlGradient::score_function && p.bias_correction_kl)
    incompatible(
        "FG_KL_GRADIENT_SCORE_FUNCTION together with use_bias_correction_kl would count the score-function term twice");
}

}  // namespace

LossOptions loss_options(const fg_loss_options* given) {
  const fg_loss_options o = take_or_defaults(given, "options");
  LossOptions out;
  LossParams& p = out.params;
  set_choices(o, &p);
  set_bounds(o, &p);
  set_numbers(o, &p);
  set_normalizers(o, p.loss_type, &out.normalizers);
  out.temperature = temperature(o.temperature);
  out.mask_truncated = flag("mask_truncated_completions", o.mask_truncated_completions);
  refuse_combinations(o, p);
  return out;
}

AdvantageOptions advantage_options(const fg_advantage_options* given) {
  const fg_advantage_options o = take_or_defaults(given, "options");
  AdvantageOptions a;
  a.scale = RewardScale(choice("scale_rewards", o.scale_rewards, 3, "FG_SCALE_GROUP, FG_SCALE_BATCH, FG_SCALE_NONE"));
  a.baseline =
      Baseline(choice("baseline", o.baseline, 4,
                      "FG_BASELINE_GROUP_MEAN, FG_BASELINE_LEAVE_ONE_OUT, FG_BASELINE_BATCH_MEAN, FG_BASELINE_NONE"));
  a.transform = RewardTransform(choice("transform", o.transform, 2, "FG_TRANSFORM_NONE, FG_TRANSFORM_RANK"));
  a.ddof = choice("ddof", o.ddof, 2, "0, 1");
  a.eps = number("eps", o.eps, kFrom0);
  a.exclude_non_finite = flag("exclude_non_finite", o.exclude_non_finite);
  reserved("options.reserved", o.reserved);
  return a;
}

}  // namespace fg::capi
