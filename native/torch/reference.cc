#include "torch/reference.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/tokens.h"
#include "torch/reference_tokens.h"

namespace fg {
namespace {

using kernels::Fault;
using kernels::PolicyBatch;
using kernels::Status;
using kernels::TokenRecord;

/// Token-sized inputs of the selected rows.
struct Selected {
  at::Tensor rows, targets, sequences;                // (n) int64
  at::Tensor weights, old, ref, sampler, advantages;  // (n) fp64; old, ref and sampler may be undefined
};

Status check_targets(const TokenRecord* records, const int32_t* targets, int64_t rows, int64_t vocab) {
  for (int64_t i = 0; i < rows; ++i)
    if (records[i].selected && (targets[i] < 0 || targets[i] >= vocab)) return {Fault::target, i};
  return {};
}

Selected gather_tokens(const LossParams& p, const PolicyBatch& b, const int32_t* targets, const TokenRecord* records) {
  std::vector<int64_t> rows, ids, sequences;
  std::vector<double> weights, old, ref, sampler, advantages;
  for (int64_t i = 0; i < b.layout.rows; ++i) {
    if (!records[i].selected) continue;
    rows.push_back(i), ids.push_back(targets[i]), sequences.push_back(records[i].sequence);
    weights.push_back(records[i].weight);
    advantages.push_back(kernels::advantage_of(b, i, records[i]));
    if (b.old_logps) old.push_back(b.old_logps[i]);
    if (p.beta != 0) ref.push_back(b.ref_logps[i]);
    if (b.sampler_logps) sampler.push_back(b.sampler_logps[i]);
  }
  const auto tensor = [](auto& v, at::ScalarType type) {
    return v.empty() ? at::empty({0}, type) : at::from_blob(v.data(), {int64_t(v.size())}, type).clone();
  };
  Selected s{tensor(rows, at::kLong),
             tensor(ids, at::kLong),
             tensor(sequences, at::kLong),
             tensor(weights, at::kDouble),
             {},
             {},
             {},
             tensor(advantages, at::kDouble)};
  if (b.old_logps) s.old = tensor(old, at::kDouble);
  if (p.beta != 0) s.ref = tensor(ref, at::kDouble);
  if (b.sampler_logps) s.sampler = tensor(sampler, at::kDouble);
  return s;
}

/// Entropy of each row of log-probs; probability 0 contributes 0.
at::Tensor entropy_of(const at::Tensor& log_probs) {
  const at::Tensor p = at::exp(log_probs);
  const at::Tensor safe =
      at::where(at::eq(p, 0), at::zeros({}, p.options()), log_probs);  // before the product: 0 * -inf
  return at::neg(at::sum(at::mul(p, safe), -1)).to(at::kDouble);
}

void fill_records(const LossParams& p, const Selected& s, const TokenLoss<at::Tensor>& t, const at::Tensor& losses,
                  const at::Tensor& entropies, TokenRecord* records) {
  // a value that is the same for all tokens comes as one
  const auto values = [&](const at::Tensor& x) { return x.detach().to(at::kDouble).expand_as(losses).contiguous(); };
  const at::Tensor loss = values(losses), ratio = values(t.ratio), low = values(t.clipped_low),
                   high = values(t.clipped_high);
  const at::Tensor kl = p.beta != 0 ? values(t.kl) : at::zeros_like(loss);
  const at::Tensor entropy = entropies.defined() ? values(entropies) : at::zeros_like(loss);
  for (int64_t i = 0; i < s.rows.numel(); ++i) {
    TokenRecord& r = records[s.rows.data_ptr<int64_t>()[i]];
    r.loss = loss.data_ptr<double>()[i];
    r.ratio = float(ratio.data_ptr<double>()[i]);
    r.kl = float(kl.data_ptr<double>()[i]);
    r.entropy = float(entropy.data_ptr<double>()[i]);
    r.clipped_low = low.data_ptr<double>()[i] != 0;
    r.clipped_high = high.data_ptr<double>()[i] != 0;
  }
}

at::Tensor spread(const at::Tensor& values, const at::Tensor& rows, int64_t n) {
  return at::zeros({n}, at::kFloat).index_copy_(0, rows, values.detach().to(at::kFloat));
}

Status check_rows(const at::Tensor& logp, const at::Tensor& rows) {
  const at::Tensor bad = at::nonzero(at::isnan(logp)).view(-1);
  if (bad.numel() == 0) return {};
  return {Fault::logits, rows.data_ptr<int64_t>()[bad.data_ptr<int64_t>()[0]]};
}

}  // namespace

UnfusedLoss unfused_grpo_loss(const at::Tensor& logits, const int32_t* targets, double temperature, const LossParams& p,
                              const PolicyBatch& b, bool want_entropy, TokenRecord* records) {
  UnfusedLoss out;
  const int64_t n = b.layout.rows;
  out.status = kernels::prepare_tokens(p, b, records);
  if (out.status.ok()) out.status = check_targets(records, targets, n, logits.size(1));
  if (!out.status.ok()) return out;

  const Selected s = gather_tokens(p, b, targets, records);
  const at::Tensor rows = s.rows.numel() == n ? logits : logits.index_select(0, s.rows);
  const at::Tensor wide = rows.to(at::kFloat);
  const at::Tensor log_probs = at::log_softmax(temperature == 1 ? wide : wide / temperature, -1);
  const at::Tensor logp = log_probs.gather(1, s.targets.unsqueeze(1)).squeeze(1).to(at::kDouble);
  out.status = check_rows(logp, s.rows);
  if (!out.status.ok()) return out;

  at::Tensor entropy;
  if (b.has_entropy_term()) {
    entropy = entropy_of(log_probs);
  } else if (want_entropy || has_entropy_mask(p)) {
    const at::NoGradGuard no_grad;
    entropy = entropy_of(log_probs);
  }
  const UnfusedTokens in{logp, entropy, s.old, s.ref, s.sampler, s.advantages, s.sequences, b.layout.sequences, s.rows};
  const UnfusedTokenLoss t = unfused_token_loss(p, in);
  at::Tensor losses = s.weights * t.token.loss;
  if (b.has_entropy_term()) {
    const double kept = b.entropy_coef != 0 ? std::max(1.0, t.kept.sum().item<double>()) : 1.0;
    const double weight = b.entropy_coef != 0 ? b.entropy_coef / kept : b.entropy_weight;
    losses = losses - weight * at::where(t.kept, entropy, at::zeros({}, entropy.options()));
  }
  out.loss = losses.sum();
  fill_records(p, s, t.token, losses, entropy, records);
  out.metrics = kernels::collect_metrics(b.layout, records);
  out.logps = spread(logp, s.rows, n);
  if (want_entropy) out.entropies = spread(entropy, s.rows, n);
  return out;
}

}  // namespace fg
