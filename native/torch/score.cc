#include "torch/score.h"

#include <algorithm>

#include "kernels/kernels.h"
#include "torch/cpu_context.h"
#include "torch/dtype.h"
#include "torch/error.h"
#include "torch/logits_buffer.h"

namespace fg {

namespace {

constexpr int64_t kLogitBytes = int64_t{64} << 20;

struct Group {
  PackedSequences packed;
  std::vector<int32_t> targets;
};

Group pack(const std::vector<Sequence>& inputs, const std::vector<int64_t>& members) {
  Group g{pack_sequences(inputs, members), {}};
  for (const int64_t i : members)
    g.targets.insert(g.targets.end(), inputs[i].completion, inputs[i].completion + inputs[i].completion_length);
  return g;
}

void check(const Transformer& model, const std::vector<Sequence>& inputs) {
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
  kernels::Status run(const Group& g, const std::atomic<bool>& abort) {
    const at::Tensor hidden = model_.hidden(g.packed.ids, g.packed.rows, {}, g.packed.wanted);
    logps_.resize(g.targets.size());
    faults_.resize(g.targets.size());
    if (options_.entropy) entropies_.resize(g.targets.size());
    const int64_t rows_at_once = std::max<int64_t>(1, kLogitBytes / (4 * model_.vocab()));
    for (int64_t at = 0; at < hidden.size(0); at += rows_at_once) {
      if (abort.load()) throw CodedError("ERR_ABORTED", "The call was aborted");
      kernels::Status status = chunk(g, hidden, at, std::min(rows_at_once, hidden.size(0) - at));
      status.row += at;
      if (!status.ok()) return status;
    }
    return {};
  }

 private:
  kernels::Status chunk(const Group& g, const at::Tensor& hidden, int64_t at, int64_t rows) {
    const at::Tensor logits = buffer_.fill(model_, hidden.narrow(0, at, rows));
    kernels::SelectiveLogpArgs args;
    args.layout = {rows, 1};
    args.logits = {logits.data_ptr(), dtype_of(logits), model_.vocab(), model_.vocab()};
    args.targets = g.targets.data() + at;
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
[[noreturn]] void throw_fault(const std::vector<Sequence>& inputs, const std::vector<int64_t>& group, int64_t row) {
  size_t at = 0;
  while (row >= inputs[group[at]].completion_length) row -= inputs[group[at++]].completion_length;
  throw CodedError("ERR_NON_FINITE", "The model's logits for token " + std::to_string(row) + " of completions[" +
                                         std::to_string(group[at]) + "] are not finite");
}

}  // namespace

ScoreResult score_completions(Transformer& model, const std::vector<Sequence>& inputs, const ScoreOptions& options,
                              const std::atomic<bool>& abort) {
  check(model, inputs);
  at::NoGradGuard no_grad;
  std::vector<int64_t> start{0};
  for (const Sequence& in : inputs) start.push_back(start.back() + in.completion_length);
  ScoreResult result;
  result.logps.resize(static_cast<size_t>(start.back()));
  if (options.entropy) result.entropies.resize(result.logps.size());
  Scorer scorer(model, options);
  for (const auto& group : cut_sequences(inputs, options.token_budget)) {
    if (abort.load()) throw CodedError("ERR_ABORTED", "The call was aborted");
    const kernels::Status status = scorer.run(pack(inputs, group), abort);
    if (!status.ok()) throw_fault(inputs, group, status.row);
    int64_t from = 0;
    for (const int64_t i : group) {
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
      model.hidden(at::tensor(tokens, at::kLong), whole_sequences(offsets), {}, at::tensor(rows, at::kLong));
  const at::Tensor loss = at::cross_entropy_loss(model.logits(hidden).to(at::kFloat), at::tensor(targets, at::kLong));
  NamedTensors leaves = model.parameters();
  const NamedTensors adapters = model.adapters();
  leaves.insert(leaves.end(), adapters.begin(), adapters.end());
  std::vector<at::Tensor> inputs;
  for (const auto& [name, tensor] : leaves) inputs.push_back(tensor);
  const auto grads = torch::autograd::grad({loss}, inputs);
  NllGradients out{loss.item<double>(), {}};
  for (size_t i = 0; i < inputs.size(); ++i)
    out.gradients.emplace_back(leaves[i].first, grads[i].to(at::kFloat).contiguous());
  return out;
}

}  // namespace fg
