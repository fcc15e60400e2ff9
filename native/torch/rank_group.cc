#include "torch/rank_group.h"

#include <cstring>

#include "torch/rank_state.h"

namespace fg {
namespace {

using Milliseconds = std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr auto kPoll = std::chrono::microseconds(100);

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

}  // namespace

void RankGroup::State::join(const std::atomic<bool>& abort) {
  auto o = c10d::ProcessGroupGloo::Options::create(options.timeout + 3 * slice());  // we notice first
  o->devices = devices_for(options.host);
  meet(abort);
  told(
      [&] { gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(store->store(), options.rank, options.world_size, o); });
}

void RankGroup::State::meet(const std::atomic<bool>& abort) {
  usable();
  const int64_t n = meetings++;
  const auto begin = Clock::now();
  const std::string met = "met/" + std::to_string(n), done = "done/" + std::to_string(n);
  told([&] {
    if (n == 0) store->set("world/" + std::to_string(options.rank), std::to_string(options.world_size));
    watch->arrive(n);
    if (store->add(met, 1) == options.world_size) {
      if (n > 1)
        for (const char* name : {"met/", "done/"}) store->remove(name + std::to_string(n - 2));
      store->set(done, "1");
    } else {
      wait_for(n, abort, [&] {
        if (n == 0) check_sizes();
        return store->wait(done, slice());
      });
    }
    if (n == 0) check_sizes();
  });
  statistics.waiting += seconds_since(begin);
}

RankGroup::RankGroup(const RankGroupOptions& options, const std::atomic<bool>& abort)
    : state_(std::make_shared<State>()) {
  State& s = *state_;
  s.options = options;
  s.store = std::make_unique<RankStore>(
      StoreOptions{options.host, options.port, options.serve, options.prefix, options.timeout}, abort);
  s.watch = std::make_unique<RankWatch>(*s.store, options.rank, options.world_size, options.timeout);
  try {
    s.join(abort);
  } catch (const std::exception& e) {
    fail(e.what());
    s.leave();
    throw;
  }
}

RankGroup::~RankGroup() { state_->leave(); }

int RankGroup::rank() const { return state_->options.rank; }
int RankGroup::world_size() const { return state_->options.world_size; }
RankGroup::Statistics RankGroup::statistics() const { return state_->statistics; }

std::string RankGroup::awaited() const { return state_->watch->awaited(); }
void RankGroup::set_step(int64_t step) { state_->watch->set_step(step); }
void RankGroup::meet(const std::atomic<bool>& abort) { state_->meet(abort); }
void RankGroup::leave() noexcept { state_->leave(); }

void RankGroup::last_words(const std::string& message) {
  state_->watch->last_words(message);
  if (state_->options.serve)
    std::this_thread::sleep_for(2 * State::kSlice);  // whoever waits reads it before the store is gone
}

void RankGroup::begin_sum(std::vector<at::Tensor> numbers) {
  State& s = *state_;
  s.usable();
  if (s.begin_on_gpu(numbers, [&](GpuExchange& gpu) { gpu.sum(numbers); })) return;
  s.told([&] {
    auto work = numbers.size() == 1 ? s.gloo->allreduce(numbers) : s.gloo->allreduce_coalesced(numbers);
    s.begin(std::move(work), std::move(numbers));
  });
}

void RankGroup::begin_sum_at(int owner, const at::Tensor& numbers) {
  State& s = *state_;
  s.usable();
  if (s.begin_on_gpu({numbers}, [&](GpuExchange& gpu) { gpu.sum_at(owner, numbers); })) return;
  s.told([&] {
    std::vector<at::Tensor> list{numbers};
    c10d::ReduceOptions options;
    options.rootRank = owner;
    s.begin(s.gloo->reduce(list, options), list);
  });
}

void RankGroup::begin_share(int owner, const at::Tensor& numbers) {
  State& s = *state_;
  s.usable();
  if (s.begin_on_gpu({numbers}, [&](GpuExchange& gpu) { gpu.share(owner, numbers); })) return;
  s.told([&] {
    std::vector<at::Tensor> list{numbers};
    c10d::BroadcastOptions options;
    options.rootRank = owner;
    s.begin(s.gloo->broadcast(list, options), list);
  });
}

void RankGroup::finish(const std::atomic<bool>& abort) {
  State& s = *state_;
  s.usable();
  const auto begin = Clock::now();
  auto works = std::move(s.works);
  s.works.clear();
  const auto until = [&](auto there) {
    s.wait_for(s.meetings + 1, abort, [&] {
      if (there()) return true;
      std::this_thread::sleep_for(kPoll);
      return false;
    });
  };
  for (auto& [work, keep] : works)
    s.told([&] {
      if (!work) return;
      until([&] { return work->isCompleted(); });
      work->wait();  // throws what went wrong
    });
  if (std::exchange(s.gpu_queued, false)) s.nccl_told([&] { until([&] { return s.gpu->done(); }); });
  s.statistics.exchanging += seconds_since(begin);
}

std::vector<std::string> RankGroup::gather(const std::string& bytes, const std::atomic<bool>& abort) {
  State& s = *state_;
  const int world = s.options.world_size;
  meet(abort);
  const auto exchange = [&](at::Tensor mine) {
    std::vector<std::vector<at::Tensor>> all(1);
    for (int r = 0; r < world; ++r) all[0].push_back(at::empty_like(mine));
    std::vector<at::Tensor> list{mine};
    s.told([&] { s.begin(s.gloo->allgather(all, list), list); });
    finish(abort);
    return all[0];
  };
  std::vector<int64_t> sizes;
  for (const at::Tensor& t : exchange(at::full({1}, static_cast<int64_t>(bytes.size()), at::kLong)))
    sizes.push_back(t.item<int64_t>());
  const int64_t longest = *std::max_element(sizes.begin(), sizes.end());
  std::vector<std::string> out(static_cast<size_t>(world));
  if (longest == 0) return out;
  at::Tensor padded = at::zeros({longest}, at::kByte);
  std::memcpy(padded.mutable_data_ptr(), bytes.data(), bytes.size());
  const std::vector<at::Tensor> all = exchange(padded);
  for (size_t r = 0; r < out.size(); ++r)
    out[r].assign(static_cast<const char*>(all[r].const_data_ptr()), static_cast<size_t>(sizes[r]));
  return out;
}

std::string RankGroup::from_first(const std::string& bytes, const std::atomic<bool>& abort) {
  State& s = *state_;
  meet(abort);
  const bool first = s.options.rank == 0;
  at::Tensor size = at::full({1}, static_cast<int64_t>(bytes.size()), at::kLong);
  begin_share(0, size);
  finish(abort);
  std::string out(static_cast<size_t>(size.item<int64_t>()), '\0');
  if (out.empty()) return out;
  at::Tensor data = at::empty({size.item<int64_t>()}, at::kByte);
  if (first) std::memcpy(data.mutable_data_ptr(), bytes.data(), bytes.size());
  begin_share(0, data);
  finish(abort);
  std::memcpy(out.data(), data.const_data_ptr(), out.size());
  return out;
}

void RankGroup::fail(const std::string& message) noexcept {
  State& s = *state_;
  if (!s.broken.empty()) return;
  s.watch->tell(message);
  s.broken = message;
}

}  // namespace fg
