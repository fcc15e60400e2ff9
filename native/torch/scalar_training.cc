// The gradients of models with a scalar head: a preference loss on pairs, or the critic's loss on tokens.
#include <algorithm>

#include "torch/error.h"
#include "torch/scalar_head.h"
#include "torch/training.h"

namespace fg {
namespace {

void add(kernels::Totals& to, const kernels::Totals& part) {
  to.loss += part.loss, to.margin += part.margin;
  to.count += part.count, to.clipped += part.clipped, to.ranked += part.ranked;
}

/// Chosen and rejected with their common beginning as prompt. Where they have none, each one's first token is it.
std::vector<Sequence> sequences_of(const PairBatch& batch) {
  std::vector<Sequence> all;
  for (int64_t p = 0; p < batch.pairs(); ++p) {
    const int32_t *a = batch.tokens.data() + batch.offsets[2 * p], *b = batch.tokens.data() + batch.offsets[2 * p + 1],
                  *end = batch.tokens.data() + batch.offsets[2 * p + 2];
    const int64_t common = std::max<int64_t>(1, std::mismatch(a, b, b, end).first - a);
    all.push_back(with_last_row({a, common, a + common, b - a - common}));
    all.push_back(with_last_row({b, common, b + common, end - b - common}));
  }
  return all;
}

std::vector<Sequence> sequences_of(const ValueBatch& batch) {
  std::vector<Sequence> all;
  for (size_t s = 0; s < batch.prompt_lengths.size(); ++s) {
    const int32_t *begin = batch.tokens.data() + batch.offsets[s], *end = batch.tokens.data() + batch.offsets[s + 1];
    const int32_t* completion = begin + batch.prompt_lengths[s];
    all.push_back({begin, batch.prompt_lengths[s], completion, end - completion});
  }
  return all;
}

[[noreturn]] void throw_pair_fault(const kernels::Status& status, int64_t pair) {
  const char* what = status.fault == kernels::Fault::chosen_reward     ? "the score of its chosen side"
                     : status.fault == kernels::Fault::rejected_reward ? "the score of its rejected side"
                                                                       : "its margin";
  throw CodedError("ERR_NON_FINITE",
                   "Training stopped: pair " + std::to_string(pair) + " of the step: " + what + " is not finite");
}

[[noreturn]] void throw_value_fault(const kernels::Status& status, const std::vector<Sequence>& sequences,
                                    const std::vector<int64_t>& members) {
  const char* what = status.fault == kernels::Fault::value       ? "the critic's value"
                     : status.fault == kernels::Fault::old_value ? "the old value"
                                                                 : "the return";
  size_t at = 0;
  int64_t token = status.row;
  while (token >= sequences[members[at]].completion_length) token -= sequences[members[at++]].completion_length;
  throw CodedError("ERR_NON_FINITE", std::string("Training stopped: ") + what + " of completion " +
                                         std::to_string(members[at]) + ", token " + std::to_string(token) +
                                         " is not finite");
}

/// The tokens of a micro-batch, and the results in their place.
struct ValuePart {
  std::vector<float> values, returns, old_values, gradient;
  std::vector<uint8_t> mask;

  kernels::ValueLossArgs args(const ValueOptions& options) {
    kernels::ValueLossArgs a;
    const auto rows = static_cast<int64_t>(values.size());
    gradient.resize(values.size());
    a.layout = {rows, 1};
    a.layout.mask = mask.empty() ? nullptr : mask.data();
    a.values = values.data(), a.returns = returns.data(), a.old_values = old_values.data();
    a.clip = options.clip, a.normalizer = options.normalizer;
    a.grad_values = gradient.data();
    return a;
  }
  void measure(ValueResult& result) const {
    for (size_t i = 0; i < values.size(); ++i) {
      if (!mask.empty() && !mask[i]) continue;
      const double target = returns[i], error = target - values[i];
      result.value += values[i], result.target += target, result.target_square += target * target;
      result.error += error, result.error_square += error * error;
    }
  }
};

}  // namespace

void Trainer::scalar_backward(const at::Tensor& rows, const std::vector<float>& by_value) {
  const at::Tensor& weight = model_.score_weight();
  at::Tensor grad_rows;
  {
    const at::NoGradGuard no_grad;
    grad_rows = scalar_gradients(by_value, rows, weight,
                                 weight.requires_grad() ? optimizer_.gradient_of(weight) : at::zeros(weight.sizes()));
  }
  if (rows.requires_grad()) torch::autograd::backward({rows}, {grad_rows});
  optimizer_.collect_gradients();
}

PairResult Trainer::accumulate_pairs(const PairBatch& batch, const PairOptions& options,
                                     const std::atomic<bool>& abort) {
  PairResult result;
  fused_ = true;
  const auto pairs = static_cast<size_t>(batch.pairs());
  result.chosen.resize(pairs), result.rejected.resize(pairs);
  const std::vector<Sequence> sequences = sequences_of(batch);
  each_part(sequences, cut_pairs(sequences, row_budget(options.micro_batch_tokens)), 0, abort,
            [&](const auto& members) {
              const PackedSequences packed = pack_last_rows(sequences, members);
              const at::Tensor rows = model_.hidden(packed.ids, packed.rows, {}, packed.wanted);
              const std::vector<float> scores = scalar_values(rows, model_.score_weight());
              const int64_t first = members.front() / 2, count = static_cast<int64_t>(members.size()) / 2;
              for (int64_t i = 0; i < count; ++i)
                result.chosen[first + i] = scores[2 * i], result.rejected[first + i] = scores[2 * i + 1];
              std::vector<float> by_chosen(count), by_rejected(count), by_value(2 * count);
              kernels::PreferenceLossArgs args;
              args.pairs = count;
              args.chosen = result.chosen.data() + first, args.rejected = result.rejected.data() + first;
              args.margins = batch.margins.empty() ? nullptr : batch.margins.data() + first;
              args.center_coefficient = options.center_coefficient, args.normalizer = options.normalizer;
              args.grad_chosen = by_chosen.data(), args.grad_rejected = by_rejected.data();
              kernels::Totals totals;
              if (const auto s = kernels::preference_loss(args, &totals); !s.ok()) throw_pair_fault(s, first + s.row);
              for (int64_t i = 0; i < count; ++i) by_value[2 * i] = by_chosen[i], by_value[2 * i + 1] = by_rejected[i];
              scalar_backward(rows, by_value);
              add(result.totals, totals);
            });
  return result;
}

ValueResult Trainer::accumulate_values(const ValueBatch& batch, const ValueOptions& options,
                                       const std::atomic<bool>& abort) {
  ValueResult result;
  fused_ = true;
  result.values.resize(batch.returns.size());
  const std::vector<Sequence> sequences = sequences_of(batch);
  std::vector<int64_t> starts{0};  // where each sequence's completion begins among the N tokens
  for (const Sequence& s : sequences) starts.push_back(starts.back() + s.completion_length);
  each_part(
      sequences, cut_sequences(sequences, row_budget(options.micro_batch_tokens)), 0, abort, [&](const auto& members) {
        const PackedSequences packed = pack_sequences(sequences, members);
        const at::Tensor rows = model_.hidden(packed.ids, packed.rows, {}, packed.wanted);
        ValuePart part;
        part.values = scalar_values(rows, model_.score_weight());
        const auto gather = [&](const auto& from, auto& to) {
          if (!from.empty())
            for (const int64_t i : members) to.insert(to.end(), from.begin() + starts[i], from.begin() + starts[i + 1]);
        };
        gather(batch.returns, part.returns), gather(batch.old_values, part.old_values), gather(batch.mask, part.mask);
        kernels::Totals totals;
        if (const auto s = kernels::value_loss(part.args(options), &totals); !s.ok())
          throw_value_fault(s, sequences, members);
        scalar_backward(rows, part.gradient);
        add(result.totals, totals);
        part.measure(result);
        auto from = part.values.begin();
        for (const int64_t i : members) {
          const auto next = from + sequences[i].completion_length;
          std::copy(from, next, result.values.begin() + starts[i]);
          from = next;
        }
      });
  return result;
}

}  // namespace fg
