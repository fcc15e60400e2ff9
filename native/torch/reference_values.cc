#include "torch/reference_values.h"

#include <vector>

#include "math/preference_loss.h"
#include "math/value_loss.h"
#include "torch/tensor_ops.h"

namespace fg {
namespace {

at::Tensor doubles(const float* values, int64_t n) {
  at::Tensor t = at::zeros({n}, at::TensorOptions(at::kDouble));
  for (int64_t i = 0; values && i < n; ++i) t.data_ptr<double>()[i] = values[i];
  return t;
}

/// Rows that the mask selects.
at::Tensor selected_rows(const Layout& l) {
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < l.rows; ++i)
    if (!l.mask || l.mask[i]) rows.push_back(i);
  return rows.empty() ? at::empty({0}, at::TensorOptions(at::kLong)) : at::tensor(rows, at::kLong);
}

}  // namespace

UnfusedValueLoss unfused_value_loss(const kernels::ValueLossArgs& a) {
  const at::AutoGradMode grad_mode(true);
  const int64_t n = a.layout.rows;
  const at::Tensor rows = selected_rows(a.layout), values = doubles(a.values, n).requires_grad_(true);
  const auto taken = [&](const at::Tensor& t) { return t.index_select(0, rows); };
  const auto term =
      value_term<at::Tensor>(taken(values), taken(doubles(a.returns, n)), taken(doubles(a.old_values, n)), a.clip);
  const at::Tensor loss = term.loss.sum() / a.normalizer;
  loss.backward();
  return {loss.item<double>(), values.grad()};
}

UnfusedPreferenceLoss unfused_preference_loss(const kernels::PreferenceLossArgs& a) {
  const at::AutoGradMode grad_mode(true);
  const at::Tensor chosen = doubles(a.chosen, a.pairs).requires_grad_(true);
  const at::Tensor rejected = doubles(a.rejected, a.pairs).requires_grad_(true);
  const at::Tensor terms =
      preference_term<at::Tensor>(chosen, rejected, doubles(a.margins, a.pairs), a.center_coefficient);
  const at::Tensor loss = terms.sum() / a.normalizer;
  loss.backward();
  return {loss.item<double>(), chosen.grad(), rejected.grad()};
}

}  // namespace fg
