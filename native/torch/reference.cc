#include "torch/reference.h"

#include <vector>

#include "kernels/cpu/tokens.h"
#include "torch/tensor_ops.h"

namespace fg {
namespace {

using kernels::Fault;
using kernels::PolicyBatch;
using kernels::Status;
using kernels::TokenRecord;

/// Token-sized inputs of the selected rows.
struct Selected {
  at::Tensor rows, targets;                  // (n) int64
  at::Tensor weights, old, ref, advantages;  // (n) fp64; old and ref may be undefined
};

Status check_targets(const TokenRecord* records, const int32_t* targets, int64_t rows, int64_t vocab) {
  for (int64_t i = 0; i < rows; ++i)
    if (records[i].selected && (targets[i] < 0 || targets[i] >= vocab)) return {Fault::target, i};
  return {};
}

Selected gather_tokens(const LossParams& p, const PolicyBatch& b, const int32_t* targets, const TokenRecord* records) {
  std::vector<int64_t> rows, ids;
  std::vector<double> weights, old, ref, advantages;
  for (int64_t i = 0; i < b.layout.rows; ++i) {
    if (!records[i].selected) continue;
    rows.push_back(i), ids.push_back(targets[i]), weights.push_back(records[i].weight);
    advantages.push_back(b.advantages[b.advantages_per_token ? i : records[i].sequence]);
    if (b.old_logps) old.push_back(b.old_logps[i]);
    if (p.beta != 0) ref.push_back(b.ref_logps[i]);
  }
  const auto tensor = [](auto& v, at::ScalarType type) {
    return v.empty() ? at::empty({0}, type) : at::from_blob(v.data(), {int64_t(v.size())}, type).clone();
  };
  return {tensor(rows, at::kLong),  tensor(ids, at::kLong),   tensor(weights, at::kDouble),
          tensor(old, at::kDouble), tensor(ref, at::kDouble), tensor(advantages, at::kDouble)};
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
  const auto values = [](const at::Tensor& x) { return x.detach().to(at::kDouble).contiguous(); };
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
  if (b.entropy_weight != 0) {
    entropy = entropy_of(log_probs);
  } else if (want_entropy) {
    const at::NoGradGuard no_grad;
    entropy = entropy_of(log_probs);
  }
  // On policy the log-ratio is 0 with derivative 1; -inf - -inf must not appear in it.
  const at::Tensor finite = at::where(at::isinf(logp), at::zeros({}, logp.options()), logp);
  const at::Tensor log_ratio = b.old_logps ? logp - s.old : finite - finite.detach();
  const TokenLoss<at::Tensor> t = token_loss<at::Tensor>(p, log_ratio, logp, s.ref, s.advantages);
  at::Tensor losses = s.weights * t.loss;
  if (b.entropy_weight != 0) losses = losses - b.entropy_weight * entropy;
  out.loss = losses.sum();
  fill_records(p, s, t, losses, entropy, records);
  out.metrics = kernels::collect_metrics(b.layout, records);
  out.logps = spread(logp, s.rows, n);
  if (want_entropy) out.entropies = spread(entropy, s.rows, n);
  return out;
}

}  // namespace fg
