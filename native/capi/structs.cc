// Defaults of every public struct: what fg_X_init writes.
#include "capi/structs.h"

#include "kernels/kernels.h"
#include "math/gae.h"

namespace fg::capi {
namespace {

/// What is not 0 or NULL.
template <class T>
void set_defaults(T*) {}

void set_defaults(fg_error* x) { x->index = x->sequence = x->token = -1; }
void set_defaults(fg_exec* x) { x->threads = 1; }

void set_defaults(fg_advantage_options* x) {
  const AdvantageOptions d;
  x->scale_rewards = int32_t(d.scale), x->baseline = int32_t(d.baseline), x->transform = int32_t(d.transform);
  x->ddof = d.ddof, x->eps = d.eps;
}

void set_defaults(fg_loss_options* x) {
  const LossParams d;
  x->loss_type = int32_t(d.loss_type), x->importance_sampling_level = int32_t(d.level);
  x->kl_estimator = int32_t(d.kl), x->kl_gradient = int32_t(d.kl_gradient);
  x->use_bias_correction_kl = -1;
  x->sampler_importance_sampling = int32_t(d.sampler), x->dppo_divergence = int32_t(d.dppo_divergence);
  x->temperature = 1;
  x->epsilon = x->epsilon_high = x->delta = x->dual_clip = FG_UNSET;
  x->normalizer = x->entropy_normalizer = FG_UNSET;
  x->entropy_threshold = x->sampler_clip_min = x->off_policy_mask_threshold = FG_UNSET;
  x->beta = d.beta;
  x->top_entropy_quantile = d.top_entropy_quantile;
  x->sampler_clip_max = d.sampler_max;
  x->sapo_temperature_pos = d.sapo_temperature_pos, x->sapo_temperature_neg = d.sapo_temperature_neg;
  x->vespo_k_pos = d.vespo_k_pos, x->vespo_lambda_pos = d.vespo_lambda_pos;
  x->vespo_k_neg = d.vespo_k_neg, x->vespo_lambda_neg = d.vespo_lambda_neg;
  x->dppo_ratio_max = d.dppo_ratio_max;
  x->clip_cov_ratio = d.clip_cov_ratio, x->clip_cov_low = d.clip_cov_low, x->clip_cov_high = d.clip_cov_high;
  x->kl_cov_ratio = d.kl_cov_ratio, x->kl_cov_coef = d.kl_cov_coef;
}

void set_defaults(fg_selective_logp_args* x) { x->temperature = 1; }
void set_defaults(fg_selective_logp_backward_args* x) { x->temperature = 1; }
void set_defaults(fg_grpo_loss_args* x) { x->entropy = 1; }
void set_defaults(fg_rewards_with_kl_args* x) { x->kl_estimator = FG_K1; }

void set_defaults(fg_gae_args* x) {
  const GaeOptions d;
  x->gamma = d.gamma, x->lambda = d.lambda;
}

void set_defaults(fg_value_loss_args* x) { x->cliprange_value = x->normalizer = FG_UNSET; }
void set_defaults(fg_preference_loss_args* x) { x->normalizer = FG_UNSET; }

template <class T>
fg_status init(T* x, size_t size) noexcept {
  if (!x || reinterpret_cast<uintptr_t>(x) % alignof(T) != 0) return FG_INVALID_ARG;
  if (!possible_size<T>(size)) return FG_STRUCT_SIZE;
  const T full = defaults<T>();
  std::memset(static_cast<void*>(x), 0, size);  // of a newer header: what this library does not know is 0
  std::memcpy(static_cast<void*>(x), &full, size < sizeof(T) ? size : sizeof(T));
  x->struct_size = size;
  return FG_OK;
}

}  // namespace

template <class T>
T defaults() {
  T x;
  std::memset(static_cast<void*>(&x), 0, sizeof x);  // padding, too
  x.struct_size = sizeof x;
  set_defaults(&x);
  return x;
}
#define FG_INSTANTIATE(type, ...) template type defaults<type>();
FG_STRUCTS(FG_INSTANTIATE)
#undef FG_INSTANTIATE

}  // namespace fg::capi

extern "C" {
#define FG_INIT(type, ...) \
  fg_status type##_init(type* x, size_t size) { return fg::capi::init(x, size); }
FG_STRUCTS(FG_INIT)
#undef FG_INIT
}
