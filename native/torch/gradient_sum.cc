#include "torch/gradient_sum.h"

#include <algorithm>

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace fg {
namespace {

/// Numbers in a sum: below that, small gradients go together. A ring cuts each sum into as many pieces as there are
/// ranks; pieces that are too small would be latency and nothing else.
int64_t bucket_size(int world_size) { return std::max(int64_t{1} << 20, int64_t{world_size} << 17); }

}  // namespace

/// Which gradients are final, and which sums have begun. The order of the sums is that of the buckets on every rank,
/// whatever the order in which gradients become final.
struct GradientSum::Progress {
  Progress(Optimizer& o, RankGroup& g) : optimizer(o), group(g), final_(o.size(), false), bucket_of(o.size()) {
    const int64_t most = bucket_size(g.world_size());
    // Backward makes the last layers' gradients first.
    int64_t numbers = 0;
    for (size_t i = o.size(); i-- > 0;) {
      const int64_t n = o.parameter(i).numel();
      if (buckets.empty() || numbers + n > most) buckets.emplace_back(), numbers = 0;
      numbers += n;
      bucket_of[i] = buckets.size() - 1;
      buckets.back().push_back(i);
    }
  }

  void is_final(size_t i) {
    TORCH_CHECK(bucket_of[i] >= begun, "a gradient was added to after its sum had begun");
    final_[i] = true;
    while (begun < buckets.size()) {
      for (const size_t member : buckets[begun])
        if (!final_[member]) return;
      begin();
    }
  }

  void begin() {
    const std::vector<size_t>& members = buckets[begun++];
    if (!optimizer.sharded()) {
      std::vector<at::Tensor> numbers;
      for (const size_t i : members) numbers.push_back(optimizer.final_gradient(i));
      return group.begin_sum(std::move(numbers));
    }
    for (const size_t i : members)
      for (const Optimizer::Piece& p : optimizer.pieces(i))
        group.begin_sum_at(p.owner, optimizer.final_gradient(i).view(-1).slice(0, p.begin, p.end));
  }

  Optimizer& optimizer;
  RankGroup& group;
  std::vector<std::vector<size_t>> buckets;
  std::vector<bool> final_;
  std::vector<size_t> bucket_of;
  size_t begun = 0;
};

GradientSum::GradientSum(Optimizer& optimizer, RankGroup& group, const std::atomic<bool>& abort)
    : optimizer_(optimizer), group_(group), abort_(abort), progress_(std::make_shared<Progress>(optimizer, group)) {}

GradientSum::~GradientSum() { remove_hooks(); }

void GradientSum::remove_hooks() {
  for (size_t i = 0; i < optimizer_.size(); ++i)
    torch::autograd::impl::set_post_acc_grad_hooks(optimizer_.parameter(i), nullptr);
}

void GradientSum::before_last_backward(const std::vector<at::Tensor>& without_autograd) {
  group_.meet(abort_);
  met_ = true;
  struct Hook : torch::autograd::PostAccumulateGradHook {
    std::shared_ptr<Progress> progress;
    size_t index;
    Hook(std::shared_ptr<Progress> p, size_t i) : progress(std::move(p)), index(i) {}
    void operator()(const torch::autograd::Variable&) override { progress->is_final(index); }
  };
  for (size_t i = 0; i < optimizer_.size(); ++i) {
    const at::Tensor& leaf = optimizer_.parameter(i);
    const auto same = [&](const at::Tensor& t) { return t.is_same(leaf); };
    if (std::any_of(without_autograd.begin(), without_autograd.end(), same))
      progress_->final_[i] = true;  // its sum begins with the first of the others
    else
      torch::autograd::impl::set_post_acc_grad_hooks(leaf, std::make_unique<Hook>(progress_, i));
  }
}

void GradientSum::finish() {
  remove_hooks();
  if (!met_) group_.meet(abort_);
  while (progress_->begun < progress_->buckets.size()) progress_->begin();
  group_.finish(abort_);
}

}  // namespace fg
