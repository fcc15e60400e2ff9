#include "torch/score.h"

#include <algorithm>
#include <numeric>

#include "torch/error.h"

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
  at::Tensor ids, rows, targets;  // rows: the hidden rows that predict a completion token
  std::vector<int64_t> offsets{0};
};

Packed pack(const std::vector<ScoreInput>& inputs, const std::vector<size_t>& group) {
  std::vector<int64_t> ids, rows, targets;
  Packed p;
  for (const size_t i : group) {
    const ScoreInput& in = inputs[i];
    // The last token predicts nothing that is asked for: it need not be computed.
    ids.insert(ids.end(), in.prompt, in.prompt + in.prompt_length);
    ids.insert(ids.end(), in.completion, in.completion + in.completion_length - 1);
    for (int64_t t = 0; t < in.completion_length; ++t) {
      rows.push_back(p.offsets.back() + in.prompt_length - 1 + t);
      targets.push_back(in.completion[t]);
    }
    p.offsets.push_back(static_cast<int64_t>(ids.size()));
  }
  p.ids = at::tensor(ids, at::kLong);
  p.rows = at::tensor(rows, at::kLong);
  p.targets = at::tensor(targets, at::kLong);
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

}  // namespace

at::Tensor selective_logp(const at::Tensor& logits, const at::Tensor& targets, double temperature,
                          at::Tensor* entropy) {
  const at::Tensor z = temperature == 1.0 ? logits.to(at::kFloat) : logits.to(at::kFloat) / temperature;
  const at::Tensor lse = at::logsumexp(z, {1});
  if (entropy) {
    const at::Tensor p = at::exp(z - lse.unsqueeze(1));
    *entropy = lse - at::where(p > 0, p * z, 0.0).sum(1);
  }
  return at::clamp_max(z.gather(1, targets.unsqueeze(1)).squeeze(1) - lse, 0.0);
}

ScoreResult score_completions(Transformer& model, const std::vector<ScoreInput>& inputs, const ScoreOptions& options,
                              const std::atomic<bool>& abort) {
  check(model, inputs);
  at::NoGradGuard no_grad;
  std::vector<int64_t> start{0};
  for (const ScoreInput& in : inputs) start.push_back(start.back() + in.completion_length);
  ScoreResult result;
  result.logps.resize(static_cast<size_t>(start.back()));
  if (options.entropy) result.entropies.resize(result.logps.size());
  const int64_t rows_at_once = std::max<int64_t>(1, kLogitBytes / (4 * model.vocab()));
  for (const auto& group : plan(inputs, options.token_budget)) {
    if (abort.load()) throw CodedError("ERR_ABORTED", "The call was aborted");
    const Packed p = pack(inputs, group);
    const at::Tensor hidden = model.hidden_ragged(p.ids, p.offsets).index_select(0, p.rows);
    std::vector<float> logps, entropies;
    for (int64_t at = 0; at < hidden.size(0); at += rows_at_once) {
      if (abort.load()) throw CodedError("ERR_ABORTED", "The call was aborted");
      const int64_t n = std::min(rows_at_once, hidden.size(0) - at);
      at::Tensor entropy;
      const at::Tensor logp = selective_logp(model.logits(hidden.narrow(0, at, n)), p.targets.narrow(0, at, n),
                                             options.temperature, options.entropy ? &entropy : nullptr)
                                  .contiguous();
      logps.insert(logps.end(), logp.const_data_ptr<float>(), logp.const_data_ptr<float>() + n);
      if (options.entropy)
        entropies.insert(entropies.end(), entropy.const_data_ptr<float>(), entropy.const_data_ptr<float>() + n);
    }
    size_t from = 0;
    for (const size_t i : group)
      for (int64_t t = 0; t < inputs[i].completion_length; ++t, ++from) {
        if (std::isnan(logps[from]))
          throw CodedError("ERR_NON_FINITE", "The model's logits for token " + std::to_string(t) + " of completions[" +
                                                 std::to_string(i) + "] are not finite");
        result.logps[static_cast<size_t>(start[i] + t)] = logps[from];
        if (options.entropy) result.entropies[static_cast<size_t>(start[i] + t)] = entropies[from];
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
      model.hidden_ragged(at::tensor(tokens, at::kLong), offsets).index_select(0, at::tensor(rows, at::kLong));
  const at::Tensor loss = -selective_logp(model.logits(hidden), at::tensor(targets, at::kLong), 1.0, nullptr).mean();
  std::vector<at::Tensor> inputs;
  for (const auto& [name, tensor] : model.parameters()) inputs.push_back(tensor);
  const auto grads = torch::autograd::grad({loss}, inputs);
  NllGradients out{loss.item<double>(), {}};
  for (size_t i = 0; i < inputs.size(); ++i)
    out.gradients.emplace_back(model.parameters()[i].first, grads[i].to(at::kFloat).contiguous());
  return out;
}

}  // namespace fg
