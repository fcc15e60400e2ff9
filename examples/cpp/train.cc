// Trains a small recurrent language model by GRPO on libtorch, with libfused_grpo's loss: first compares the gradient
// with that of unfused libtorch operations, then trains in float32 and with bfloat16 logits. The reward is the share of
// a completion's tokens that continue the prompt by counting up. Exits with 1 when a gradient is wrong or a reward does
// not come near 1.
#include <chrono>
#include <cstdio>
#include <string>

#include "fused_grpo_torch.h"

using torch::Tensor;

constexpr int64_t kVocab = 12, kHidden = 48, kPrompts = 8, kGenerations = 16, kLength = 4, kSteps = 150;

struct ModelImpl : torch::nn::Module {
  torch::nn::Embedding embedding{nullptr};
  torch::nn::GRU gru{nullptr};
  torch::nn::Linear head{nullptr};

  ModelImpl() {
    embedding = register_module("embedding", torch::nn::Embedding(kVocab, kHidden));
    gru = register_module("gru", torch::nn::GRU(torch::nn::GRUOptions(kHidden, kHidden).batch_first(true)));
    head = register_module("head", torch::nn::Linear(kHidden, kVocab));
  }

  /// (B, T) tokens, the state before them -> (B, T, V) logits of the tokens after each, the state after them.
  std::tuple<Tensor, Tensor> forward(const Tensor& tokens, const Tensor& state = {}) {
    auto [out, after] = gru->forward(embedding->forward(tokens), state);
    return {head->forward(out), after};
  }
};
TORCH_MODULE(Model);

/// (B, kLength) tokens drawn one after the other.
Tensor generate(Model& model, const Tensor& prompts) {
  const torch::NoGradGuard no_grad;
  std::vector<Tensor> tokens;
  Tensor last = prompts.unsqueeze(1), state;
  for (int64_t t = 0; t < kLength; ++t) {
    Tensor logits;
    std::tie(logits, state) = model->forward(last, state);
    last = torch::multinomial(logits.squeeze(1).softmax(1), 1);
    tokens.push_back(last);
  }
  return torch::cat(tokens, 1);
}

/// (B): the share of tokens that count up from the prompt.
Tensor rewards_of(const Tensor& prompts, const Tensor& tokens) {
  const Tensor wanted = (prompts.unsqueeze(1) + torch::arange(1, kLength + 1)) % kVocab;
  return tokens.eq(wanted).to(torch::kFloat64).mean(1);
}

double train(torch::Dtype logits_dtype, const char* name) {
  torch::manual_seed(1);
  Model model;
  torch::optim::Adam adam(model->parameters(), torch::optim::AdamOptions(0.005));
  const Tensor prompts = torch::arange(kPrompts).repeat_interleave(kGenerations);
  const auto begin = std::chrono::steady_clock::now();
  double first = 0, last = 0;
  for (int64_t step = 0; step < kSteps; ++step) {
    const Tensor tokens = generate(model, prompts), rewards = rewards_of(prompts, tokens);
    fused_grpo::Batch batch;
    batch.targets = tokens.to(torch::kInt32);
    batch.advantages = fused_grpo::group_advantages(rewards, kGenerations);
    batch.options.entropy_coef = 0.01;  // else some prompts settle on a wrong token
    const Tensor seen = torch::cat({prompts.unsqueeze(1), tokens.narrow(1, 0, kLength - 1)}, 1);
    const Tensor logits = std::get<0>(model->forward(seen)).to(logits_dtype);
    adam.zero_grad();
    fused_grpo::grpo_loss(logits, batch).backward();
    adam.step();
    last = rewards.mean().item<double>();
    if (step == 0) first = last;
    if (step % 50 == 0)
      std::printf("%s: step %ld, mean reward %.3f, entropy %.3f\n", name, long(step), last, batch.metrics.entropy);
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::printf("%s: mean reward %.3f -> %.3f in %.1f s\n", name, first, last, seconds.count());
  return last;
}

/// The same loss by libtorch's own operations: DAPO's clipped surrogate, a mean over the tokens that the mask leaves.
Tensor unfused(const Tensor& logits, const fused_grpo::Batch& batch, double low, double high) {
  const Tensor picked =
      logits.to(torch::kFloat32).log_softmax(2).gather(2, batch.targets.to(torch::kInt64).unsqueeze(2));
  const Tensor ratio = (picked.squeeze(2) - batch.old_logps).exp(), advantages = batch.advantages.unsqueeze(1);
  const Tensor loss = -torch::min(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages);
  const Tensor mask = batch.mask.to(torch::kFloat32);
  return (loss * mask).sum() / mask.sum();
}

/// The largest difference between both gradients, relative to the largest gradient; larger than that of one rounding:
/// false.
bool check(torch::Dtype dtype, double tolerance, const char* name, bool in_place) {
  torch::manual_seed(2);
  const int64_t vocab = 1000;
  const Tensor logits = (2 * torch::randn({6, 7, vocab})).to(dtype);
  fused_grpo::Batch batch;
  batch.targets = torch::randint(vocab, {6, 7}, torch::kInt32);
  batch.advantages = torch::randn({6});
  batch.mask = torch::rand({6, 7}).gt(0.2).to(torch::kUInt8);
  const Tensor now = logits.to(torch::kFloat32).log_softmax(2).gather(2, batch.targets.to(torch::kInt64).unsqueeze(2));
  batch.old_logps = (now.squeeze(2) + 0.3 * torch::randn({6, 7})).contiguous();  // some of them are clipped
  batch.options.epsilon_high = 0.28;
  batch.in_place = in_place;
  const Tensor a = logits.clone().requires_grad_(), b = logits.clone().requires_grad_();
  const Tensor expected = unfused(a, batch, 0.2, 0.28);
  (2 * expected).backward();
  const Tensor loss = fused_grpo::grpo_loss(b * 1, batch);  // b * 1: a leaf is not to be overwritten
  (2 * loss).backward();
  const double error = ((a.grad() - b.grad()).abs().max() / a.grad().abs().max()).item<double>();
  const double loss_error = (loss - expected).abs().item<double>();
  const bool fine = error < tolerance && loss_error < 1e-5 && batch.metrics.clip_ratio_high > 0;
  std::printf("%s%s: gradient as unfused libtorch's to %.1e of its largest entry%s\n", name,
              in_place ? ", in place" : "", error, fine ? "" : ": WRONG");
  return fine;
}

int main() {
  if (fg_abi_version() != FG_ABI_VERSION) return 1;
  bool fine = true;
  for (const bool in_place : {false, true}) {
    fine = check(torch::kFloat32, 2e-6, "float32", in_place) && fine;
    fine = check(torch::kBFloat16, 8e-3, "bfloat16", in_place) && fine;
  }
  fine = train(torch::kFloat32, "float32") > 0.9 && fine;
  fine = train(torch::kBFloat16, "bfloat16 logits") > 0.9 && fine;
  return fine ? 0 : 1;
}
