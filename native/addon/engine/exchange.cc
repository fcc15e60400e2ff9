// Tensors of the ranks of a run, added up or shared: on the tensors' thread, behind the ops that were called before.
#include <sstream>

#include "addon/engine/convert.h"
#include "addon/engine/group.h"
#include "addon/engine/tensor.h"
#include "torch/error.h"

namespace fg {
namespace {

std::vector<at::Tensor> tensors_of(const Napi::Value& value) {
  if (!value.IsArray()) throw bad_argument("tensors", "an array of Tensors");
  const auto array = value.As<Napi::Array>();
  std::vector<at::Tensor> out;
  for (uint32_t i = 0; i < array.Length(); ++i)
    out.push_back(TensorHandle::tensor_of(array.Get(i), "tensors[" + std::to_string(i) + "]"));
  return out;
}

std::shared_ptr<RankGroup> group_of(const Napi::Value& value) {
  auto group = GroupHandle::of(value);
  if (!group) throw bad_argument("group", "a Group");
  return group;
}

std::string described(const std::string& call, const std::vector<at::Tensor>& tensors) {
  std::ostringstream text;
  text << call;
  for (const at::Tensor& t : tensors)
    text << ' ' << TensorHandle::dtype_name(t) << ' ' << t.sizes() << " on " << t.device().type();
  return text.str();
}

/// Meets, and compares what each rank is about to exchange: what differs would hang, or be read as something else.
void agree(RankGroup& group, const std::string& mine, const std::atomic<bool>& abort) {
  const std::vector<std::string> all = group.gather(mine, abort);
  for (size_t r = 1; r < all.size(); ++r)
    if (all[r] != all[0])
      throw CodedError("ERR_RANKS_DIFFER", "The ranks do not exchange the same: " + all[0] + " on rank 0, but " +
                                               all[r] + " on rank " + std::to_string(r));
}

/// begin(tensor) for all that hold something, once the ranks agree, and waits for them.
template <class Begin>
void exchange(RankGroup& group, const std::string& call, const std::vector<at::Tensor>& tensors,
              const std::atomic<bool>& abort, Begin begin) {
  agree(group, described(call, tensors), abort);
  for (const at::Tensor& t : tensors)
    if (t.numel() > 0) begin(t);
  group.finish(abort);
}

const Deliver kNothing = [](Napi::Env env) { return env.Undefined(); };

}  // namespace

Napi::Value TensorOps::all_reduce(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto work = [group = group_of(info[0]), tensors = tensors_of(info[1]),
                 mean = info[2].ToBoolean().Value()](const std::atomic<bool>& abort) -> Deliver {
      exchange(*group, mean ? "allReduce (mean)" : "allReduce (sum)", tensors, abort,
               [&](const at::Tensor& t) { group->begin_sum({t}); });
      if (mean)
        for (const at::Tensor& t : tensors) t.div_(group->world_size());
      return kNothing;
    };
    return thread_.submit(info.Env(), info.This().As<Napi::Object>(), std::move(work));
  });
}

Napi::Value TensorOps::broadcast(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto group = group_of(info[0]);
    const auto root = static_cast<int>(info[2].ToNumber().Int64Value());
    if (root < 0 || root >= group->world_size()) throw bad_argument("root", "a rank");
    auto work = [group, root, tensors = tensors_of(info[1])](const std::atomic<bool>& abort) -> Deliver {
      exchange(*group, "broadcast from " + std::to_string(root), tensors, abort,
               [&](const at::Tensor& t) { group->begin_share(root, t); });
      return kNothing;
    };
    return thread_.submit(info.Env(), info.This().As<Napi::Object>(), std::move(work));
  });
}

}  // namespace fg
