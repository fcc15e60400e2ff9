#pragma once
// The arguments of the ops of kernels/value_ops.h, as the core addon and the test addons of CUDA read them. Outputs are
// left to the caller.
#include "addon/common/loss_arguments.h"
#include "kernels/value_ops.h"

namespace fg {

/// For errors that name a token by its sequence; on the host.
inline Culprits culprits_of(const Layout& l) {
  Culprits c;
  c.offsets = l.offsets, c.sequences = l.sequences;
  return c;
}

inline kernels::GaeArgs gae_arguments(const Arguments& a) {
  kernels::GaeArgs k;
  k.layout = a.layout();
  k.rewards = a.required<float>("rewards", k.layout.rows);
  k.values = a.required<float>("values", k.layout.rows);
  k.last_values = a.array<float>("lastValues", k.layout.sequences);
  k.options = {a.number("gamma"), a.number("lambda"), a.flag("whiten")};
  return k;
}

/// `normalizer` 0: the selected tokens, at least 1. `cliprangeValue` infinite: not clipped.
inline kernels::ValueLossArgs value_loss_arguments(const Arguments& a) {
  kernels::ValueLossArgs k;
  k.layout = a.layout();
  k.values = a.required<float>("values", k.layout.rows);
  k.returns = a.required<float>("returns", k.layout.rows);
  k.clip = a.number("cliprangeValue");
  if (k.clip < kUnbounded) k.old_values = a.required<float>("oldValues", k.layout.rows);
  const double given = a.number("normalizer");
  k.normalizer = given > 0 ? given : double(std::max<int64_t>(kernels::selected_tokens(k.layout), 1));
  return k;
}

inline kernels::PreferenceLossArgs preference_loss_arguments(const Arguments& a) {
  kernels::PreferenceLossArgs k;
  k.pairs = a.integer("pairs");
  k.chosen = a.required<float>("chosenRewards", k.pairs);
  k.rejected = a.required<float>("rejectedRewards", k.pairs);
  k.margins = a.array<float>("margins", k.pairs);
  k.center_coefficient = a.number("centerRewardsCoefficient");
  k.normalizer = a.number("normalizer");
  return k;
}

inline kernels::PassAtKArgs pass_at_k_arguments(const Arguments& a) {
  kernels::PassAtKArgs k;
  k.count = a.integer("count"), k.groups = a.integer("groups"), k.k = a.integer("k");
  k.rewards = a.required<double>("rewards", k.count);
  k.group_offsets = a.required<int32_t>("groupOffsets", k.groups + 1);
  Arguments::check_offsets("groupOffsets", k.group_offsets, k.groups, k.count);
  return k;
}

inline kernels::ProcessAdvantagesArgs process_advantages_arguments(const Arguments& a) {
  kernels::ProcessAdvantagesArgs k;
  k.layout = a.layout();
  k.steps = a.integer("steps"), k.groups = a.integer("groups");
  k.step_rewards = a.required<double>("stepRewards", k.steps);
  k.step_ends = a.required<int32_t>("stepEnds", k.steps);
  k.step_offsets = a.required<int32_t>("stepOffsets", k.layout.sequences + 1);
  Arguments::check_offsets("stepOffsets", k.step_offsets, k.layout.sequences, k.steps);
  k.group_offsets = a.required<int32_t>("groupOffsets", k.groups + 1);
  Arguments::check_offsets("groupOffsets", k.group_offsets, k.groups, k.layout.sequences);
  k.options.scale = RewardScale(a.integer("scaleRewards"));
  k.options.ddof = int(a.integer("ddof"));
  k.options.eps = a.number("eps");
  return k;
}

inline kernels::MultiRewardArgs multi_reward_arguments(const Arguments& a) {
  const RewardArguments r = reward_arguments(a);
  kernels::MultiRewardArgs k;
  k.functions = a.integer("functions"), k.count = r.count, k.groups = r.groups;
  k.rewards = a.required<double>("rewards", k.functions * k.count);
  k.weights = a.required<double>("rewardWeights", k.functions);
  k.group_offsets = r.group_offsets;
  k.aggregation = RewardAggregation(a.integer("multiObjectiveAggregation"));
  k.options = r.options;
  return k;
}

inline kernels::RewardsWithKlArgs rewards_with_kl_arguments(const Arguments& a) {
  kernels::RewardsWithKlArgs k;
  k.layout = a.layout();
  k.rewards = a.required<double>("rewards", k.layout.sequences);
  k.beta = a.number("beta");
  k.estimator = KlEstimator(a.integer("klEstimator"));
  if (k.beta == 0) return k;
  k.logps = a.required<float>("logps", k.layout.rows);
  k.ref_logps = a.required<float>("refLogps", k.layout.rows);
  return k;
}

inline Napi::Object totals_object(Napi::Env env, const kernels::Totals& t) {
  auto o = Napi::Object::New(env);
  const auto set = [&](const char* name, double v) { o.Set(name, Napi::Number::New(env, v)); };
  set("loss", t.loss), set("margin", t.margin);
  set("count", double(t.count)), set("clipped", double(t.clipped)), set("ranked", double(t.ranked));
  return o;
}

}  // namespace fg
