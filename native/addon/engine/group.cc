#include "addon/engine/group.h"

#include "torch/error.h"

namespace fg {
namespace {

const napi_type_tag kGroupTag = {0x6fd1b7a5c2e84f09, 0x93d2ab417f6e0c58};

std::string bytes_of(const Napi::Value& v, const char* name) {
  if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    throw bad_argument(name, "a Uint8Array");
  const auto array = v.As<Napi::Uint8Array>();
  return array.ByteLength() == 0 ? std::string()
                                 : std::string(reinterpret_cast<const char*>(array.Data()), array.ByteLength());
}

Napi::Value to_js(Napi::Env env, const std::string& bytes) {
  auto out = Napi::Uint8Array::New(env, bytes.size());
  std::copy(bytes.begin(), bytes.end(), out.Data());
  return out;
}

RankGroupOptions options_of(const Napi::Object& o) {
  RankGroupOptions options;
  options.rank = static_cast<int>(integer_at(o, "rank"));
  options.world_size = static_cast<int>(integer_at(o, "worldSize"));
  options.host = string_at(o, "host");
  options.port = static_cast<int>(integer_at(o, "port"));
  options.serve = bool_at(o, "serve");
  options.prefix = string_at(o, "prefix");
  options.timeout = std::chrono::milliseconds(integer_at(o, "timeout"));
  options.nccl_only = bool_at(o, "ncclOnly");
  if (options.world_size < 1 || options.rank < 0 || options.rank >= options.world_size || options.port < 1 ||
      options.port > 65535 || options.timeout.count() < 1)
    throw bad_argument("options", "0 <= rank < worldSize, a port from 1 to 65535 and a timeout of at least 1 ms");
  return options;
}

RankGroup& joined(const std::shared_ptr<RankGroup>& group) {
  if (!group) throw CodedError("ERR_DISPOSED", "This group was not joined, or was left");
  return *group;
}

}  // namespace

Napi::Function GroupHandle::define(Napi::Env env) {
  return DefineClass(env, "Group",
                     {
                         InstanceMethod("join", &GroupHandle::join),
                         InstanceMethod("gather", &GroupHandle::gather),
                         InstanceMethod("fromFirst", &GroupHandle::from_first),
                         InstanceMethod("meet", &GroupHandle::meet),
                         InstanceMethod("setStep", &GroupHandle::set_step),
                         InstanceMethod("fail", &GroupHandle::fail),
                         InstanceMethod("lastWords", &GroupHandle::last_words),
                         InstanceMethod("awaited", &GroupHandle::awaited),
                         InstanceMethod("statistics", &GroupHandle::statistics),
                         InstanceMethod("leave", &GroupHandle::leave),
                     });
}

GroupHandle::GroupHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<GroupHandle>(info), thread_(info.Env(), 1) {
  info.This().As<Napi::Object>().TypeTag(&kGroupTag);
}

std::shared_ptr<RankGroup> GroupHandle::of(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kGroupTag)) return nullptr;
  std::shared_ptr<RankGroup> group = Unwrap(value.As<Napi::Object>())->joined_->now();
  joined(group);
  return group;
}

Napi::Value GroupHandle::join(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info,
                  [options = options_of(object_at(info[0], "options"))](Joined& j, const std::atomic<bool>& abort) {
                    j.exchange(std::make_shared<RankGroup>(options, abort));
                    return [](Napi::Env env) { return env.Undefined(); };
                  });
  });
}

Napi::Value GroupHandle::gather(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [bytes = bytes_of(info[0], "bytes")](Joined& j, const std::atomic<bool>& abort) {
      return [all = joined(j.group).gather(bytes, abort)](Napi::Env env) -> Napi::Value {
        auto out = Napi::Array::New(env, all.size());
        for (uint32_t i = 0; i < all.size(); ++i) out[i] = to_js(env, all[i]);
        return out;
      };
    });
  });
}

Napi::Value GroupHandle::from_first(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [bytes = bytes_of(info[0], "bytes")](Joined& j, const std::atomic<bool>& abort) {
      return [out = joined(j.group).from_first(bytes, abort)](Napi::Env env) { return to_js(env, out); };
    });
  });
}

Napi::Value GroupHandle::meet(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [](Joined& j, const std::atomic<bool>& abort) {
      joined(j.group).meet(abort);
      return [](Napi::Env env) { return env.Undefined(); };
    });
  });
}

Napi::Value GroupHandle::set_step(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (!info[0].IsNumber()) throw bad_argument("step", "a number");
    if (const auto group = joined_->now()) group->set_step(info[0].As<Napi::Number>().Int64Value());
    return info.Env().Undefined();
  });
}

Napi::Value GroupHandle::fail(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [message = string_of(info[0], "message")](Joined& j, const std::atomic<bool>&) {
      if (j.group) j.group->fail(message);
      return [](Napi::Env env) { return env.Undefined(); };
    });
  });
}

Napi::Value GroupHandle::last_words(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::string message = string_of(info[0], "message");
    if (const auto group = joined_->now()) group->last_words(message);
    return info.Env().Undefined();
  });
}

Napi::Value GroupHandle::awaited(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto group = joined_->now();
    return Napi::String::New(info.Env(), group ? group->awaited() : "");
  });
}

Napi::Value GroupHandle::statistics(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto out = Napi::Object::New(info.Env());
    const auto group = joined_->now();
    const RankGroup::Statistics s = group ? group->statistics() : RankGroup::Statistics{};
    out.Set("bytes", Napi::Number::New(info.Env(), static_cast<double>(s.bytes)));
    out.Set("waiting", Napi::Number::New(info.Env(), s.waiting));
    out.Set("exchanging", Napi::Number::New(info.Env(), s.exchanging));
    return out;
  });
}

Napi::Value GroupHandle::leave(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return submit(info, [](Joined& j, const std::atomic<bool>&) {
      if (const auto group = j.exchange(nullptr)) group->leave();  // an optimizer may hold it longer
      return [](Napi::Env env) { return env.Undefined(); };
    });
  });
}

}  // namespace fg
