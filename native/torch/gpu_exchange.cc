#include "torch/gpu_exchange.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>

#include <optional>
#include <utility>

#include "torch/cuda_context.h"
#include "torch/error.h"

namespace fg {
namespace {

NcclType type_of(const at::Tensor& t) {
  constexpr std::pair<at::ScalarType, NcclType> kTypes[] = {
      {at::kByte, NcclType::bytes},    {at::kInt, NcclType::int32},      {at::kHalf, NcclType::float16},
      {at::kFloat, NcclType::float32}, {at::kDouble, NcclType::float64}, {at::kBFloat16, NcclType::bfloat16}};
  for (const auto& [torch, nccl] : kTypes)
    if (t.scalar_type() == torch) return nccl;
  throw CodedError("ERR_INVALID_ARG",
                   std::string("NCCL does not add numbers of type ") + c10::toString(t.scalar_type()));
}

/// NCCL takes the device that is current where a communicator is made.
std::unique_ptr<Nccl> join(const NcclPlace& place, c10::Device device) {
  const c10::OptionalDeviceGuard guard(device.is_cpu() ? std::nullopt : std::optional(device));
  return std::make_unique<Nccl>(place);
}

}  // namespace

struct GpuExchange::State {
  c10::Device device;
  std::unique_ptr<Nccl> nccl;
  std::optional<c10::Event> queued;  // behind the last of what was queued

  /// fn(stream), with everything behind what the kernels have queued on it.
  template <class Fn>
  void queue(const std::vector<at::Tensor>& tensors, Fn fn) {
    for (const at::Tensor& t : tensors) {
      TORCH_CHECK(t.is_contiguous(), "exchanged tensors are contiguous");
      if (t.device() != device)
        throw CodedError("ERR_INVALID_ARG", "The tensor is on " + t.device().str() +
                                                ", but this rank has exchanged numbers of " + device.str() +
                                                ": a rank has one GPU");
    }
    if (device.is_cpu()) return fn(nullptr);
    const c10::DeviceGuard guard(device);
    fn(current_cuda_stream(device.index()));
    queued.emplace(device.type());
    queued->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
  }
};

GpuExchange::GpuExchange(const NcclPlace& place, c10::Device device)
    : state_(new State{device, join(place, device), {}}) {}

GpuExchange::~GpuExchange() {
  const c10::Device device = state_->device;
  const c10::OptionalDeviceGuard guard(device.is_cpu() ? std::nullopt : std::optional(device));
  state_->queued.reset();
  state_->nccl.reset();
}

void GpuExchange::sum(const std::vector<at::Tensor>& numbers) {
  State& s = *state_;
  std::vector<NcclType> types;  // asked before anything is begun
  for (const at::Tensor& t : numbers) types.push_back(type_of(t));
  s.queue(numbers, [&](void* stream) {
    s.nccl->group_begin();
    for (size_t i = 0; i < numbers.size(); ++i)
      s.nccl->sum(numbers[i].mutable_data_ptr(), numbers[i].numel(), types[i], stream);
    s.nccl->group_end();
  });
}

void GpuExchange::sum_at(int owner, const at::Tensor& numbers) {
  State& s = *state_;
  s.queue({numbers}, [&](void* stream) {
    s.nccl->sum_at(owner, numbers.mutable_data_ptr(), numbers.numel(), type_of(numbers), stream);
  });
}

void GpuExchange::share(int owner, const at::Tensor& numbers) {
  State& s = *state_;
  s.queue({numbers}, [&](void* stream) {
    s.nccl->share(owner, numbers.mutable_data_ptr(), static_cast<int64_t>(numbers.nbytes()), stream);
  });
}

bool GpuExchange::done() { return state_->nccl->launched() && (!state_->queued || state_->queued->query()); }

void GpuExchange::abort() noexcept { state_->nccl->abort(); }

}  // namespace fg
