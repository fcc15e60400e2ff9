#include "torch/score.h"

#include <algorithm>
#include <numeric>

#include "kernels/kernels.h"
#include "torch/cpu_context.h"
#include "torch/dtype.h"
#include "torch/error.h"
#include "torch/logits_buffer.h"

namespace fg {

namespace {

constexpr int64_t kLogitBytes = int64_t{64} << 20;

/// Groups of inputs whose tokens fit the budget, longest first so that a group's lengths are alike. Always at least one
/// per group.
std::vector<std::vector<size_t>> plan(const std::vector<ScoreInput>& inputs, int64_t budget) {
  std::vector<size_t> order(inputs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  auto length = [&](size_t i) { return inputs[i].prompt_length + inputs[i].completion_length; };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return length(a) > length(b); });
  std::vector<std::vector<size_t>> groups;
  int64_t used = 0;
  for (const size_t i : order) {
    if (inputs[i].completion_length == 0) continue;
    if (groups.empty() || used + length(i) > budget) groups.emplace_back(), used = 0;
    groups.back().push_back(i);
    used += length(i);
  }
  return groups;
}

struct Packed {
  at::Tensor ids, rows;  // rows: the hidden rows that predict a completion token
  std::vector<int32_t> targets;
  std::vector<int64_t> offsets{0};
};

Packed pack(const std::vector<ScoreInput>& inputs, const std::vector<size_t>& group) {
  std::vector<int64_t> ids, rows;
  Packed p;
  for (const size_t i : group) {
    const ScoreInput& in = inputs[i];
    // The last token predicts nothing that is asked for: it need not be computed.
    ids.insert(ids.end(), in.prompt, in.prompt + in.prompt_length);
    ids.insert(ids.end(), in.completion, in.completion + in.completion_length - 1);
    for (int64_t t = 0; t < in.completion_length; ++t) rows.push_back(p.offsets.back() + in.prompt_length - 1 + t);
    p.targets.insert(p.targets.end(), in.completion, in.completion + in.completion_length);
    p.offsets.push_back(static_cast<int64_t>(ids.size()));
  }
  p.ids = at::tensor(ids, at::kLong);
  p.rows = at::tensor(rows, at::kLong);
  return p;
}

void check(const Transformer& model, const std::vector<ScoreInput>& inputs) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    const int64_t length = inputs[i].prompt_length + inputs[i].completion_length;
    if (inputs[i].completion_length > 0 && inputs[i].prompt_length == 0)
      throw CodedError("ERR_INVALID_ARG", "Expected at least one token for prompts[" + std::to_string(i) +
                                              "]: nothing predicts the first token");
    if (length > model.max_positions() + 1)
      throw CodedError("ERR_CONTEXT_LENGTH", "prompts[" + std::to_string(i) + "] and its completion have " +
                                                 std::to_string(length) + " tokens, but the model's context has " +
                                                 std::to_string(model.max_positions()));
  }
}

/// Scores one group after another; what a group needs is kept for the next.
class Scorer {
 public:
  Scorer(Transformer& model, const ScoreOptions& options) : model_(model), options_(options) {}

  const std::vector<float>& logps() const { return logps_; }
  const std::vector<float>& entropies() const { return entropies_; }

  /// The log-probs (and entropies) of the group's completion tokens end to end.
  kernels::Status run(const Packed& p, const std::atomic<bool>& abort) {
    const at::Tensor hidden = model_.hidden_ragged(p.ids, p.offsets, {}, p.rows);
    logps_.resize(p.targets.size());
    faults_.resize(p.targets.size());
    if (options_.entropy) entropies_.resize(p.targets.size());
    const int64_t rows_at_once = std::max<int64_t>(1, kLogitBytes / (4 * model_.vocab()));
    for (int64_t at = 0; at < hidden.size(0); at += rows_at_once) {
      if (abort.load()) throw CodedError("ERR_ABORTED", "The call was aborted");
      kernels::Status status = chunk(p, hidden, at, std::min(rows_at_once, hidden.size(0) - at));
      status.row += at;
      if (!status.ok()) return status;
    }
    return {};
  }

 private:
  kernels::Status chunk(const Packed& p, const at::Tensor& hidden, int64_t at, int64_t rows) {
    const at::Tensor logits = buffer_.fill(model_, hidden.narrow(0, at, rows));
    kernels::SelectiveLogpArgs args;
    args.layout = {rows, 1};
    args.logits = {logits.data_ptr(), dtype_of(logits), model_.vocab(), model_.vocab()};
    args.targets = p.targets.data() + at;
    args.temperature = options_.temperature;
    args.logps = logps_.data() + at;
    args.entropies = options_.entropy ? entropies_.data() + at : nullptr;
    args.faults = faults_.data() + at;
    return kernels::selective_logp(cpu_context(), args);
  }

  Transformer& model_;
  const ScoreOptions& options_;
  LogitsBuffer buffer_;
  std::vector<float> logps_, entropies_;
  std::vector<kernels::Fault> faults_;
};

/// Says in the caller's terms which row of the group is bad.
[[noreturn]] void throw_fault(const std::vector<ScoreInput>& inputs, const std::vector<size_t>& group, int64_t row) {
  size_t at = 0;
  while (row >= inputs[group[at]].completion_length) row -= inputs[group[at++]].completion_length;
  throw CodedError("ERR_NON_FINITE", "The model's logits for token " + std::to_string(row) + " of completions[" +
                                         std::to_string(group[at]) + "] are not finite");
}

}  // namespace

ScoreResult score_completions(Transformer& model, const std::vector<ScoreInput>& inputs, const ScoreOptions& options,
                              const std::atomic<bool>& abort) {
  check(model, inputs);
  at::NoGradGuard no_grad;
  std::vector<int64_t> start{0};
  for (const ScoreInput& in : inputs) start.push_back(start.back() + in.completion_length);
  ScoreResult result;
  result.logps.resize(static_cast<size_t>(start.back()));
  if (options.entropy) result.entropies.resize(result.logps.size());
  Scorer scorer(model, options);
  for (const auto& group : plan(inputs, options.token_budget)) {
    if (abort.load()) throw CodedError("ERR_ABORTED", "The call was aborted");
    const kernels::Status status = scorer.run(pack(inputs, group), abort);
    if (!status.ok()) throw_fault(inputs, group, status.row);
    int64_t from = 0;
    for (const size_t i : group) {
      const int64_t n = inputs[i].completion_length;
      std::copy_n(scorer.logps().begin() + from, n, result.logps.begin() + start[i]);
      if (options.entropy) std::copy_n(scorer.entropies().begin() + from, n, result.entropies.begin() + start[i]);
      from += n;
    }
  }
  return result;
}

NllGradients nll_gradients(Transformer& model, const std::vector<int32_t>& tokens,
                           const std::vector<int64_t>& offsets) {
  const at::AutoGradMode grad_on(true);
  std::vector<int64_t> rows, targets;
  for (size_t b = 0; b + 1 < offsets.size(); ++b)
    for (int64_t i = offsets[b]; i + 1 < offsets[b + 1]; ++i) {
      rows.push_back(i);
      targets.push_back(tokens[static_cast<size_t>(i) + 1]);
    }
  const at::Tensor hidden =
      model.hidden_ragged(at::tensor(tokens, at::kLong), offsets, {}, at::tensor(rows, at::kLong));
  const at::Tensor loss = at::cross_entropy_loss(model.logits(hidden).to(at::kFloat), at::tensor(targets, at::kLong));
  std::vector<at::Tensor> inputs;
  for (const auto& [name, tensor] : model.parameters()) inputs.push_back(tensor);
  const auto grads = torch::autograd::grad({loss}, inputs);
  NllGradients out{loss.item<double>(), {}};
  for (size_t i = 0; i < inputs.size(); ++i)
    out.gradients.emplace_back(model.parameters()[i].first, grads[i].to(at::kFloat).contiguous());
  return out;
}

}  // namespace fg
