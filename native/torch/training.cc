#include "torch/training.h"

#include <algorithm>
#include <string>

#include "torch/caching_allocator.h"
#include "torch/error.h"
#include "torch/gradient_sum.h"
#include "torch/linear_loss.h"
#include "torch/packing.h"
#include "torch/reference.h"

namespace fg {
namespace {

std::vector<Sequence> sequences_of(const TrainBatch& batch) {
  std::vector<Sequence> all;
  for (int64_t s = 0; s < batch.sequences(); ++s) {
    const int32_t* tokens = batch.tokens.data() + batch.offsets[s];
    all.push_back({tokens, batch.prompt_lengths[s], tokens + batch.prompt_lengths[s], batch.completion(s)});
  }
  return all;
}

const char* describe(kernels::Fault fault) {
  switch (fault) {
    case kernels::Fault::old_logp:
      return "the old log-prob";
    case kernels::Fault::ref_logp:
      return "the reference log-prob";
    case kernels::Fault::sampler_logp:
      return "the sampler's log-prob";
    case kernels::Fault::advantage:
      return "the advantage";
    case kernels::Fault::target:
      return "the token id";
    default:
      return "the logits";
  }
}

/// Says in the caller's terms (sequence of the batch, completion token) what is not finite.
[[noreturn]] void throw_fault(const kernels::Status& status, const std::vector<int32_t>& offsets,
                              const std::vector<int64_t>& members) {
  const auto at =
      std::upper_bound(offsets.begin(), offsets.end(), static_cast<int32_t>(status.row)) - offsets.begin() - 1;
  throw CodedError("ERR_NON_FINITE", std::string("Training stopped: ") + describe(status.fault) + " of completion " +
                                         std::to_string(members[at]) + ", token " +
                                         std::to_string(status.row - offsets[at]) + " is not finite");
}

/// Where a token of advantage 0 has no part in anything: neither a KL, nor entropy, nor a statistic of the batch.
bool skips(const TrainOptions& o) {
  return o.skip_zero_advantages && o.loss.beta == 0 && o.entropy_weight == 0 && o.loss.top_entropy_quantile >= 1 &&
         !chooses_by_covariance(o.loss.loss_type);
}

/// Numbers that adapters keep of a row: x A^T of every part.
int64_t adapter_outputs(const Transformer& model) {
  int64_t n = 0;
  for (const LayerWeights& w : model.weights().layers)
    for (const Linear* l : {&w.qkv, &w.out, &w.up, &w.down})
      if (!l->low_rank.parts.empty()) n += l->low_rank.joint_a.size(0);
  return n;
}

/// Layers that keep something for the backward pass: frozen ones below the lowest trained one do not.
int64_t recorded_layers(const Transformer& model) {
  const Weights& w = model.weights();
  if (w.embedding.requires_grad() || (w.positions.defined() && w.positions.requires_grad()))
    return model.config().layers;
  int64_t first = 0;
  while (first < model.config().layers && !model.trains(first)) ++first;
  return model.config().layers - first;
}

template <class T>
const T* pointer(const std::vector<T>& v) {
  return v.empty() ? nullptr : v.data();
}

}  // namespace

struct Trainer::Part {
  PackedSequences packed;
  std::vector<int64_t> members;
  std::vector<int32_t> targets, offsets;
  std::vector<float> advantages, old_logps, ref_logps, sampler_logps, logps;
  std::vector<uint8_t> mask, truncated;
  std::vector<kernels::TokenRecord> records;
  bool advantages_per_token = false;

  int64_t size() const { return static_cast<int64_t>(targets.size()); }
  kernels::PolicyBatch view(const TrainOptions& options) const {
    kernels::PolicyBatch view;
    view.layout = {size(), static_cast<int64_t>(members.size()), offsets.data(), pointer(mask), pointer(truncated)};
    view.old_logps = pointer(old_logps);
    view.ref_logps = pointer(ref_logps);
    view.sampler_logps = pointer(sampler_logps);
    view.advantages = advantages.data();
    view.advantages_per_token = advantages_per_token;
    view.normalizer = options.normalizer;
    view.entropy_weight = options.entropy_weight;
    return view;
  }
};

Trainer::Part Trainer::gather(const TrainBatch& batch, const std::vector<int64_t>& starts,
                              const std::vector<int64_t>& members) const {
  Part part;
  part.members = members;
  part.advantages_per_token = static_cast<int64_t>(batch.advantages.size()) != batch.sequences();
  part.offsets.push_back(0);
  const auto copy = [](const auto& from, int64_t begin, int64_t n, auto& to) {
    if (!from.empty()) to.insert(to.end(), from.begin() + begin, from.begin() + begin + n);
  };
  for (int64_t s : members) {
    const int64_t n = batch.completion(s), prompt = batch.prompt_lengths[s];
    copy(batch.tokens, batch.offsets[s] + prompt, n, part.targets);
    copy(batch.old_logps, starts[s], n, part.old_logps);
    copy(batch.ref_logps, starts[s], n, part.ref_logps);
    copy(batch.sampler_logps, starts[s], n, part.sampler_logps);
    copy(batch.mask, starts[s], n, part.mask);
    copy(batch.truncated, s, 1, part.truncated);
    copy(batch.advantages, part.advantages_per_token ? starts[s] : s, part.advantages_per_token ? n : 1,
         part.advantages);
    part.offsets.push_back(static_cast<int32_t>(part.size()));
  }
  part.logps.resize(part.targets.size());
  part.records.resize(part.targets.size());
  return part;
}

kernels::PolicyMetrics Trainer::fused_loss(Part& part, const TrainOptions& options, const at::Tensor& rows) {
  LinearLossArgs args;
  args.batch = part.view(options);
  args.targets = part.targets.data();
  args.temperature = options.temperature;
  args.softcap = model_.logit_softcap();
  args.want_entropy = true;
  args.hidden = rows.detach();
  args.weight = model_.head_weight().detach();
  args.grad_hidden = at::empty_like(args.hidden);
  if (model_.head_weight().requires_grad()) args.grad_weight = optimizer_.gradient_of(model_.head_weight());
  args.workspace_bytes = options.workspace_bytes;
  const LinearLossOutcome result = linear_grpo_loss(args, options.loss);
  if (!result.status.ok()) throw_fault(result.status, part.offsets, part.members);
  std::copy_n(result.logps.const_data_ptr<float>(), part.size(), part.logps.begin());
  if (rows.requires_grad()) torch::autograd::backward({rows}, {args.grad_hidden});  // else the head alone is trained
  return result.metrics;
}

kernels::PolicyMetrics Trainer::unfused_loss(Part& part, const TrainOptions& options, const at::Tensor& rows) {
  const UnfusedLoss result = unfused_grpo_loss(model_.logits(rows), part.targets.data(), options.temperature,
                                               options.loss, part.view(options), true, part.records.data());
  if (!result.status.ok()) throw_fault(result.status, part.offsets, part.members);
  const at::Tensor logps = result.logps.contiguous();
  std::copy_n(logps.const_data_ptr<float>(), part.size(), part.logps.begin());
  torch::autograd::backward({result.loss}, {});
  return result.metrics;
}

void Trainer::micro_batch(const TrainBatch& batch, const std::vector<int64_t>& starts,
                          const std::vector<Sequence>& sequences, const std::vector<int64_t>& members,
                          const TrainOptions& options, TrainResult& result) {
  Part part = gather(batch, starts, members);
  part.packed = pack_sequences(sequences, members);
  const at::Tensor rows = model_.hidden(part.packed.ids, part.packed.rows, {}, part.packed.wanted);
  result.metrics.merge(options.fused ? fused_loss(part, options, rows) : unfused_loss(part, options, rows));
  optimizer_.collect_gradients();
  for (float logp : part.logps) result.logp_sum += logp;
}

NamedTensors Trainer::freeze(Transformer& model) {
  model.set_trainable(false);
  return model.trained();
}

int64_t Trainer::bytes_per_row(bool recompute) const {
  const ModelConfig& c = model_.config();
  const int64_t joint = (c.heads + 2 * c.kv_heads) * c.head_dim, attended = c.heads * c.head_dim;
  const int64_t inner = (c.gated_mlp ? 3 : 2) * c.intermediate;
  // What a layer keeps for its gradient: both norms and residual sums, q, k, v and what was attended, the MLP's inside.
  const int64_t layer = 4 * c.hidden + joint + attended + inner;
  const int64_t passing = 2 * inner + 2 * joint + 4 * c.hidden;  // of one layer at a time: gradients on their way
  const int64_t recorded = recorded_layers(model_);
  const int64_t kept = recompute ? recorded * c.hidden + layer : recorded * layer;
  const int64_t low_rank = adapter_outputs(model_) / (recompute ? c.layers : 1);
  return (kept + passing) * static_cast<int64_t>(c10::elementSize(model_.dtype())) +
         low_rank * static_cast<int64_t>(sizeof(float));
}

int64_t Trainer::row_budget(int64_t asked, int64_t more_bytes) const {
  constexpr int64_t kBytes = 1'500'000'000, kLeast = 256, kMost = 8192;
  return asked ? asked : std::clamp(kBytes / (bytes_per_row(false) + more_bytes), kLeast, kMost);
}

/// Some token of the sequence can get a gradient.
bool Trainer::contributes(const TrainBatch& batch, const std::vector<int64_t>& starts, int64_t s) {
  const bool per_token = static_cast<int64_t>(batch.advantages.size()) != batch.sequences();
  const auto all = batch.advantages.begin();
  return per_token ? std::any_of(all + starts[s], all + starts[s + 1], [](float a) { return a != 0; })
                   : *(all + s) != 0;
}

void Trainer::throw_out_of_memory(const std::vector<Sequence>& sequences, const std::vector<int64_t>& members,
                                  size_t before, int64_t workspace) const {
  const int64_t rows = pack_sequences(sequences, members).ids.size(0);
  int64_t longest = 0;
  for (const int64_t i : members)
    longest = std::max(longest, sequences[i].prompt_length + sequences[i].completion_length - 1);
  // What could be had, a quarter left for what is not counted. (Another model's tensors are in it.)
  const int64_t logits =
      std::min(workspace, rows * model_.vocab() * static_cast<int64_t>(c10::elementSize(model_.dtype())));
  const auto got = std::max<int64_t>(0, static_cast<int64_t>(memory_peak()) - static_cast<int64_t>(before) - logits);
  const int64_t fits = std::min(rows / 2, got / bytes_per_row() * 3 / 4);
  const std::string what = "Not enough memory to train on " + std::to_string(members.size()) + " sequences (" +
                           std::to_string(rows) +
                           " rows) at once; the model and its optimizer are as they were, the step's gradients are "
                           "thrown away. ";
  throw CodedError("ERR_OUT_OF_MEMORY",
                   fits >= longest
                       ? what + "microBatchTokens: " + std::to_string(fits) + " should fit"
                       : what + "One sequence of " + std::to_string(longest) + " tokens needs about " +
                             std::to_string(longest * bytes_per_row() >> 20) +
                             " MiB: set microBatchTokens to 1, shorten the completions, " +
                             (model_.recomputes_training() ? "" : "set gradientCheckpointing, ") + "or use bfloat16");
}

TrainResult Trainer::accumulate(const TrainBatch& batch, const TrainOptions& options, const std::atomic<bool>& abort) {
  std::vector<int64_t> starts(batch.sequences() + 1, 0);  // where each sequence's completion begins among the N tokens
  for (int64_t s = 0; s < batch.sequences(); ++s) starts[s + 1] = starts[s] + std::max<int64_t>(0, batch.completion(s));
  TrainResult result;
  fused_ = options.fused;
  std::vector<Sequence> sequences = sequences_of(batch);
  if (skips(options)) {
    for (int64_t s = 0; s < batch.sequences(); ++s)
      if (!contributes(batch, starts, s)) sequences[s].completion_length = 0;  // cut_sequences leaves it out
    optimizer_.complete_gradients();
  }
  // Unfused, autograd keeps a handful of float32 copies of the logits.
  const int64_t budget = row_budget(options.micro_batch_tokens, options.fused ? 0 : 24 * model_.vocab());
  each_part(
      sequences, cut_sequences(sequences, budget), options.workspace_bytes, abort,
      [&](const std::vector<int64_t>& members) { micro_batch(batch, starts, sequences, members, options, result); });
  return result;
}

void Trainer::run_parts(const std::vector<Sequence>& sequences, const Parts& parts, int64_t workspace,
                        const std::atomic<bool>& abort,
                        const std::function<void(const std::vector<int64_t>& members)>& micro_batch,
                        const std::function<void()>& before_last) {
  at::AutoGradMode grad_mode(true);
  const RecomputeScope recompute(model_);
  for (const auto& members : parts) {
    if (abort) throw CodedError("ERR_ABORTED", "The operation was aborted");
    if (&members == &parts.back()) before_last();
    const size_t before = start_memory_peak();
    try {
      micro_batch(members);
    } catch (const c10::OutOfMemoryError&) {
      throw_out_of_memory(sequences, members, before, workspace);
    } catch (const std::bad_alloc&) {
      throw_out_of_memory(sequences, members, before, workspace);
    }
  }
}

void Trainer::each_part(const std::vector<Sequence>& sequences, const Parts& parts, int64_t workspace,
                        const std::atomic<bool>& abort,
                        const std::function<void(const std::vector<int64_t>& members)>& micro_batch) {
  const std::shared_ptr<RankGroup> group = std::move(group_);
  group_.reset();
  if (!group) return run_parts(sequences, parts, workspace, abort, micro_batch, [] {});
  GradientSum sum(optimizer_, *group, abort);
  std::exception_ptr error;
  try {
    run_parts(sequences, parts, workspace, abort, micro_batch, [&] { sum.before_last_backward(final_early()); });
  } catch (const CodedError& e) {
    if (e.code == "ERR_ABORTED" || e.code == "ERR_RANK_LOST") throw;
    error = std::current_exception();
  } catch (...) {
    error = std::current_exception();
  }
  sum.finish();  // after a failure as well: the others wait for this rank's numbers, and then learn of it
  if (error) std::rethrow_exception(error);
}

std::vector<at::Tensor> Trainer::final_early() const {
  if (!fused_) return {};
  if (model_.config().scalar_head) return {model_.score_weight()};
  const bool tied = model_.head_weight().is_same(model_.weights().embedding);
  return tied ? std::vector<at::Tensor>() : std::vector<at::Tensor>{model_.head_weight()};
}

}  // namespace fg
