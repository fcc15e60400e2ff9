#include "torch/linear_loss.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/cpu/tokens.h"
#include "torch/cpu_context.h"
#include "torch/dtype.h"
#include "torch/head_products.h"
#include "torch/tensor_ops_cuda.h"

namespace fg {
namespace {

using kernels::PolicyBatch;
using kernels::Status;
using kernels::TokenRecord;

/// The packed rows [begin, end) of a chunk.
struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

/// Rows of a chunk, and the memory of its logits.
int64_t capacity_of(const LinearLossArgs& a) {
  return std::max<int64_t>(1, a.workspace_bytes / (a.weight.size(0) * a.weight.element_size()));
}
at::Tensor workspace_of(const LinearLossArgs& a, int64_t rows) {
  return at::empty({std::min(capacity_of(a), rows), a.weight.size(0)}, a.weight.options());
}

class LinearLoss {
 public:
  LinearLoss(const LinearLossArgs& a, const LossParams& p) : a_(a), p_(p), records_(size_t(a.batch.layout.rows)) {}

  LinearLossOutcome run() {
    const int64_t n = a_.batch.layout.rows;
    out_.status = kernels::prepare_tokens(p_, a_.batch, records_.data());
    for (int64_t i = 0; i < n && out_.status.ok(); ++i)
      if (records_[size_t(i)].selected && (a_.targets[i] < 0 || a_.targets[i] >= a_.weight.size(0)))
        out_.status = {kernels::Fault::target, i};
    if (!out_.status.ok()) return out_;
    out_.logps = at::zeros({n}, at::TensorOptions(at::kFloat));
    if (a_.want_entropy || reads_entropies()) out_.entropies = at::zeros({n}, at::TensorOptions(at::kFloat));
    a_.grad_hidden.zero_();
    pack();
    capacity_ = capacity_of(a_);
    buffer_ = workspace_of(a_, int64_t(rows_.size()));
    if (kernels::two_phases(p_, a_.batch) || corrects_by_sequence(p_.sampler))
      by_sequences();
    else
      in_chunks(whole(), [&](Range r) { fused(r, false); });
    out_.metrics.sequences = a_.batch.layout.sequences;
    if (!a_.want_entropy) out_.entropies.reset();
    return out_;
  }

 private:
  bool reads_entropies() const { return a_.batch.has_entropy_term() || has_entropy_mask(p_); }

  /// Rows that are worth a product: the selected ones, without those whose gradient is 0 whatever the logits are.
  void pack() {
    const bool skips =
        a_.skip_zero_advantages && p_.beta == 0 && !a_.batch.has_entropy_term() && !kernels::two_phases(p_, a_.batch);
    for (int64_t i = 0; i < a_.batch.layout.rows; ++i) {
      const TokenRecord& r = records_[size_t(i)];
      if (r.selected && !(skips && kernels::advantage_of(a_.batch, i, r) == 0)) rows_.push_back(i);
    }
  }
  Range whole() const { return {0, int64_t(rows_.size())}; }

  /// Until something is found wrong.
  void in_chunks(Range all, const std::function<void(Range)>& use) {
    for (int64_t at = all.begin; at < all.end && out_.status.ok(); at += capacity_)
      use({at, std::min(at + capacity_, all.end)});
  }

  /// Where tokens of a sequence depend on each other: whole sequences where the workspace holds each of them; else, and
  /// for statistics of the batch, all log-probs first and the logits a second time.
  void by_sequences() {
    const bool batch_statistics =
        p_.top_entropy_quantile < 1 || chooses_by_covariance(p_.loss_type) || a_.batch.entropy_coef != 0;
    std::vector<Range> chunks;
    int64_t longest = 0;
    for (int64_t i = 0; i < int64_t(rows_.size());) {
      const Range s{i, sequence_end(i)};
      longest = std::max(longest, s.size());
      if (!chunks.empty() && s.end - chunks.back().begin <= capacity_)
        chunks.back().end = s.end;
      else
        chunks.push_back(s);
      i = s.end;
    }
    if (batch_statistics || longest > capacity_) return recompute();
    for (const Range& r : chunks)
      if (out_.status.ok()) fused(r, true);
  }
  int64_t sequence_end(int64_t i) const {
    int64_t end = i;
    while (end < int64_t(rows_.size()) && sequence(end) == sequence(i)) ++end;
    return end;
  }
  /// One comparison: sequence_end at every token would be quadratic in a sequence's length.
  bool ends_sequence(int64_t i) const { return i + 1 == int64_t(rows_.size()) || sequence(i + 1) != sequence(i); }
  int32_t sequence(int64_t i) const { return records_[size_t(rows_[size_t(i)])].sequence; }

  at::Tensor indices(Range r) const {
    const at::Tensor host = at::from_blob(const_cast<int64_t*>(rows_.data() + r.begin), {r.size()}, at::kLong);
    return host.to(a_.hidden.device());
  }
  bool contiguous(Range r) const { return rows_[size_t(r.end - 1)] - rows_[size_t(r.begin)] == r.size() - 1; }
  at::Tensor hidden(Range r) const {
    if (contiguous(r)) return a_.hidden.narrow(0, rows_[size_t(r.begin)], r.size());
    return a_.hidden.index_select(0, indices(r));
  }
  at::Tensor logits(Range r, const at::Tensor& hidden) {
    at::Tensor z = buffer_.narrow(0, 0, r.size());
    head_logits(z, hidden, a_.weight);
    if (a_.softcap > 0) z.div_(a_.softcap).tanh_().mul_(a_.softcap);
    return z;
  }
  /// d(capped)/d(z) of logits that are about to be overwritten by the gradient of the capped ones; undefined: 1.
  at::Tensor cap_slope(const at::Tensor& z) const {
    return a_.softcap > 0 ? 1 - (z / a_.softcap).square() : at::Tensor();
  }
  Rows matrix(const at::Tensor& z) const { return {z.data_ptr(), dtype_of(z), z.size(1), z.size(1), 0}; }

  template <class T>
  std::vector<T> gathered(Range r, const T* all) const {
    std::vector<T> some;
    for (int64_t i = r.begin; all && i < r.end; ++i) some.push_back(all[rows_[size_t(i)]]);
    return some;
  }

  /// Three products and the loss in between.
  void fused(Range r, bool with_sequences) {
    const PolicyBatch& b = a_.batch;
    const auto targets = gathered(r, a_.targets);
    const auto old = gathered(r, b.old_logps), sampler = gathered(r, b.sampler_logps);
    const auto ref = gathered(r, p_.beta != 0 ? b.ref_logps : nullptr);
    std::vector<float> advantages, weights;
    std::vector<int32_t> offsets{0};
    for (int64_t i = r.begin; i < r.end; ++i) {
      const int64_t row = rows_[size_t(i)];
      advantages.push_back(float(kernels::advantage_of(b, row, records_[size_t(row)])));
      weights.push_back(float(records_[size_t(row)].weight));
      if (with_sequences && ends_sequence(i)) offsets.push_back(int32_t(i + 1 - r.begin));
    }
    const at::Tensor h = hidden(r), z = logits(r, h), slope = cap_slope(z);
    const auto pointer = [](const auto& v) { return v.empty() ? nullptr : v.data(); };
    kernels::GrpoLossArgs k;
    k.batch.layout.rows = r.size();
    k.batch.layout.sequences = with_sequences ? int64_t(offsets.size()) - 1 : 1;
    k.batch.layout.offsets = with_sequences ? offsets.data() : nullptr;
    k.batch.old_logps = pointer(old), k.batch.ref_logps = pointer(ref), k.batch.sampler_logps = pointer(sampler);
    k.batch.advantages = advantages.data(), k.batch.advantages_per_token = true;
    k.batch.weights = weights.data(), k.batch.entropy_weight = b.entropy_weight;
    k.logits = k.grad = matrix(z);
    k.targets = targets.data(), k.temperature = a_.temperature;
    k.want_entropy = out_.entropies.defined();
    const TensorOutcome t = tensor_grpo_loss(k, p_, a_.hidden.device());
    if (!found(t.status, r)) return;
    out_.metrics.merge(t.metrics);
    keep(r, t);
    back(r, h, z, slope);
  }

  /// The gradient of the (capped) logits in `z` becomes those of the hidden states and of the head.
  void back(Range r, const at::Tensor& h, at::Tensor z, const at::Tensor& slope) {
    if (slope.defined()) z.mul_(slope);
    const bool in_place = contiguous(r);
    at::Tensor grad = in_place ? a_.grad_hidden.narrow(0, rows_[size_t(r.begin)], r.size()) : at::empty_like(h);
    head_gradients(grad, a_.grad_weight, z, h, a_.weight);
    if (!in_place) at::Tensor(a_.grad_hidden).index_copy_(0, indices(r), grad);
  }

  /// All log-probs, the losses of all tokens, then the logits again.
  void recompute() {
    in_chunks(whole(), [&](Range r) {
      const auto targets = gathered(r, a_.targets);
      const at::Tensor z = logits(r, hidden(r));
      kernels::SelectiveLogpArgs k;
      k.layout.rows = r.size(), k.layout.sequences = 1;
      k.logits = matrix(z), k.targets = targets.data(), k.temperature = a_.temperature;
      const TensorOutcome t = tensor_selective_logp(k, a_.hidden.device(), out_.entropies.defined());
      if (found(t.status, r)) keep(r, t);
    });
    if (!out_.status.ok()) return;
    const int64_t n = a_.batch.layout.rows;
    std::vector<float> by_logps(static_cast<size_t>(n)), by_entropies(static_cast<size_t>(n));
    kernels::PolicyLossArgs k;
    k.batch = a_.batch;
    k.logps = out_.logps.const_data_ptr<float>();
    k.entropies = out_.entropies.defined() ? out_.entropies.const_data_ptr<float>() : nullptr;
    k.grad_logps = by_logps.data(), k.grad_entropies = by_entropies.data(), k.records = records_.data();
    out_.status = kernels::policy_loss(cpu_context(), p_, k, &out_.metrics);
    in_chunks(whole(), [&](Range r) { gradient(r, by_logps, by_entropies); });
  }

  void gradient(Range r, const std::vector<float>& by_logps, const std::vector<float>& by_entropies) {
    const auto targets = gathered(r, a_.targets);
    const auto g = gathered(r, by_logps.data()), h = gathered(r, by_entropies.data());
    const at::Tensor rows = hidden(r), z = logits(r, rows), slope = cap_slope(z);
    kernels::SelectiveLogpBackwardArgs k;
    k.layout.rows = r.size(), k.layout.sequences = 1;
    k.logits = k.grad = matrix(z), k.targets = targets.data(), k.temperature = a_.temperature;
    k.grad_logps = g.data(), k.grad_entropies = a_.batch.has_entropy_term() ? h.data() : nullptr;
    if (found(tensor_selective_logp_backward(k, a_.hidden.device()).status, r)) back(r, rows, z, slope);
  }

  bool found(const Status& s, Range r) {
    if (!s.ok()) out_.status = {s.fault, rows_[size_t(r.begin + s.row)]};
    return s.ok();
  }
  void keep(Range r, const TensorOutcome& t) {
    const auto scatter = [&](const at::Tensor& from, const at::Tensor& to) {
      if (!from.defined() || !to.defined()) return;
      for (int64_t i = 0; i < r.size(); ++i)
        to.data_ptr<float>()[rows_[size_t(r.begin + i)]] = from.const_data_ptr<float>()[i];
    };
    scatter(t.logps, out_.logps), scatter(t.entropies, out_.entropies);
  }

  const LinearLossArgs& a_;
  const LossParams& p_;
  LinearLossOutcome out_;
  std::vector<TokenRecord> records_;
  std::vector<int64_t> rows_;  // packed
  int64_t capacity_ = 1;       // rows of a chunk
  at::Tensor buffer_;          // of a chunk's logits
};

}  // namespace

void linear_products(const LinearLossArgs& a) {
  const at::NoGradGuard no_grad;
  const int64_t rows = a.hidden.size(0), capacity = capacity_of(a);
  const at::Tensor buffer = workspace_of(a, rows);
  for (int64_t at = 0; at < rows; at += capacity) {
    const int64_t n = std::min(capacity, rows - at);
    const at::Tensor h = a.hidden.narrow(0, at, n);
    at::Tensor z = buffer.narrow(0, 0, n), grad = a.grad_hidden.narrow(0, at, n);
    at::mm_out(z, h, a.weight.t());
    at::mm_out(grad, z, a.weight);
    if (a.grad_weight.defined()) add_product(a.grad_weight, z, h);
  }
}

LinearLossOutcome linear_grpo_loss(const LinearLossArgs& a, const LossParams& p) {
  const at::NoGradGuard no_grad;
  return LinearLoss(a, p).run();
}

}  // namespace fg
