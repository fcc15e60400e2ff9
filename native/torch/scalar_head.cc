#include "torch/scalar_head.h"

#include <cmath>

#include "torch/cpu_context.h"
#include "torch/error.h"

namespace fg {
namespace {

constexpr int64_t kLanes = 8;  // partial sums of a product

double dot(const float* a, const float* b, int64_t n) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t k = 0; k < kLanes; ++k) lanes[k] += double(a[i + k]) * b[i + k];
  for (; i < n; ++i) lanes[0] += double(a[i]) * b[i];
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

at::Tensor plain(const at::Tensor& t) { return t.detach().to(at::kFloat).contiguous(); }

}  // namespace

std::vector<float> scalar_values(const at::Tensor& rows, const at::Tensor& weight) {
  const at::Tensor x = plain(rows), w = plain(weight);
  std::vector<float> values(static_cast<size_t>(x.size(0)));
  parallel_for(cpu_context(), x.size(0), 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      values[i] =
          static_cast<float>(dot(x.const_data_ptr<float>() + i * x.size(1), w.const_data_ptr<float>(), x.size(1)));
  });
  return values;
}

at::Tensor scalar_gradients(const std::vector<float>& by_value, const at::Tensor& rows, const at::Tensor& weight,
                            at::Tensor grad_weight) {
  const at::Tensor x = plain(rows), w = plain(weight);
  const int64_t n = x.size(0), hidden = x.size(1);
  at::Tensor grad_rows = at::empty({n, hidden});
  const float *from = x.const_data_ptr<float>(), *head = w.const_data_ptr<float>();
  float *to = grad_rows.mutable_data_ptr<float>(), *total = grad_weight.mutable_data_ptr<float>();
  parallel_for(cpu_context(), hidden, 64, [&](int64_t begin, int64_t end) {
    std::vector<double> sums(static_cast<size_t>(end - begin), 0.0);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = begin; j < end; ++j) {
        sums[j - begin] += double(by_value[i]) * from[i * hidden + j];
        to[i * hidden + j] = by_value[i] * head[j];
      }
    for (int64_t j = begin; j < end; ++j) total[j] += static_cast<float>(sums[j - begin]);
  });
  return grad_rows.to(rows.scalar_type());
}

std::vector<float> score_values(Transformer& model, std::vector<Sequence> inputs, ValuePositions positions,
                                int64_t token_budget, const std::atomic<bool>& abort) {
  const at::NoGradGuard no_grad;
  const bool last = positions == ValuePositions::last;
  if (last)
    for (Sequence& s : inputs) s = with_last_row(s);
  std::vector<int64_t> starts{0};
  for (const Sequence& s : inputs) starts.push_back(starts.back() + (last ? 1 : s.completion_length));
  std::vector<float> all(static_cast<size_t>(starts.back()));
  for (const auto& members : cut_sequences(inputs, token_budget)) {
    if (abort.load()) throw CodedError("ERR_ABORTED", "The call was aborted");
    const PackedSequences packed = last ? pack_last_rows(inputs, members) : pack_sequences(inputs, members);
    const std::vector<float> values =
        scalar_values(model.hidden(packed.ids, packed.rows, {}, packed.wanted), model.score_weight());
    int64_t from = 0;
    for (const int64_t i : members)
      for (int64_t at = starts[i]; at < starts[i + 1]; ++at, ++from) {
        if (!std::isfinite(values[from]))
          throw CodedError("ERR_NON_FINITE", "The model's value of sequence " + std::to_string(i) + " is not finite");
        all[at] = values[from];
      }
  }
  return all;
}

}  // namespace fg
