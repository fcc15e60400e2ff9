#include "torch/generate.h"

#include <algorithm>
#include <list>

#include "torch/decoder.h"
#include "torch/error.h"

namespace fg {

namespace {

constexpr int64_t kCacheBudget = int64_t{2}
                                 << 30;  // bytes of cache of the prompts decoded together; at least one prompt
constexpr int64_t kMaxSequences = 512;
constexpr int64_t kPrefillTokens = 4096;

void check(const Transformer& model, const std::vector<std::vector<int32_t>>& prompts, const GenerateOptions& o) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto length = static_cast<int64_t>(prompts[i].size());
    if (length == 0)
      throw CodedError("ERR_INVALID_ARG", "Expected at least one token for prompts[" + std::to_string(i) + "]");
    if (length + o.max_new_tokens > model.max_positions())
      throw CodedError("ERR_CONTEXT_LENGTH", "prompts[" + std::to_string(i) + "] has " + std::to_string(length) +
                                                 " tokens; with maxNewTokens " + std::to_string(o.max_new_tokens) +
                                                 " it does not fit the model's context of " +
                                                 std::to_string(model.max_positions()));
  }
}

void stop_if(const std::atomic<bool>& abort) {
  if (abort.load()) throw CodedError("ERR_ABORTED", "The call was aborted");
}

/// Keys and values of one layer, (rows, kv_heads * dim) from row `begin` on -> the prompt's cache.
void keep(PromptCache& cache, int64_t layer, const at::Tensor& k, const at::Tensor& v, int64_t begin) {
  const int64_t length = cache.segment.length, kv_heads = cache.v.size(1), dim = cache.v.size(3);
  const auto rows = [&](const at::Tensor& t) { return t.narrow(0, begin, length).view({length, kv_heads, dim}); };
  cache.k.select(0, layer).narrow(2, 0, length).copy_(rows(k).permute({1, 2, 0}));
  cache.v.select(0, layer).narrow(1, 0, length).copy_(rows(v).permute({1, 0, 2}));
}

/// One forward pass over prompts [begin, end): fills their caches and returns the logits after each prompt's last
/// token.
at::Tensor prefill(Transformer& model, const std::vector<std::vector<int32_t>>& prompts, size_t begin, size_t end,
                   PromptCache* caches) {
  std::vector<int64_t> ids, offsets{0}, last;
  for (size_t i = begin; i < end; ++i) {
    const auto length = static_cast<int64_t>(prompts[i].size());
    ids.insert(ids.end(), prompts[i].begin(), prompts[i].end());
    offsets.push_back(static_cast<int64_t>(ids.size()));
    last.push_back(offsets.back() - 1);
    PromptCache& c = caches[i - begin];
    c.segment = allocate_segment(model, length, c.k, c.v);
    c.segment.length = length;
  }
  const KvSink sink = [&](int64_t layer, const at::Tensor& k, const at::Tensor& v) {
    for (size_t i = 0; i < end - begin; ++i) keep(caches[i], layer, k, v, offsets[i]);
  };
  return model.logits(
      model.hidden(at::tensor(ids, at::kLong), whole_sequences(offsets), sink, at::tensor(last, at::kLong)));
}

/// How many prompts from `begin` on are decoded together.
size_t wave_end(const Transformer& model, const std::vector<std::vector<int32_t>>& prompts, size_t begin,
                const GenerateOptions& o) {
  const int64_t per_position = cache_bytes_per_position(model);
  int64_t bytes = 0, sequences = 0;
  size_t end = begin;
  for (; end < prompts.size(); ++end) {
    bytes +=
        per_position * (static_cast<int64_t>(prompts[end].size()) + o.completions * (o.max_new_tokens + kCacheBlock));
    sequences += o.completions;
    if (end > begin && (bytes > kCacheBudget || sequences > kMaxSequences)) break;
  }
  return end;
}

size_t prefill_end(const std::vector<std::vector<int32_t>>& prompts, size_t begin, size_t end) {
  int64_t tokens = 0;
  size_t at = begin;
  for (; at < end; ++at) {
    tokens += static_cast<int64_t>(prompts[at].size());
    if (at > begin && tokens > kPrefillTokens) break;
  }
  return at;
}

class Wave {
 public:
  Wave(Transformer& model, const std::vector<std::vector<int32_t>>& prompts, const GenerateOptions& options,
       std::vector<Completion>& out)
      : model_(model), prompts_(prompts), options_(options), out_(out), decoder_(model, options) {}

  void run(size_t begin, size_t end, const std::atomic<bool>& abort) {
    std::vector<PromptCache> caches(end - begin);
    for (size_t at = begin; at < end;) {
      stop_if(abort);
      const size_t to = prefill_end(prompts_, at, end);
      const at::Tensor logits = prefill(model_, prompts_, at, to, &caches[at - begin]);
      for (size_t i = at; i < to; ++i) start(i, caches[i - begin], logits[static_cast<int64_t>(i - at)]);
      at = to;
    }
    for (remove_done(); !active_.empty(); remove_done()) {
      stop_if(abort);
      decoder_.advance(active_);
    }
  }

 private:
  /// The sequences of one prompt, each with its first token.
  void start(size_t prompt, const PromptCache& cache, const at::Tensor& logits) {
    std::vector<Running*> group;
    for (int64_t c = 0; c < options_.completions; ++c) {
      Running& s = all_.emplace_back(options_.stop);
      s.cache.prompt = cache.segment;
      if (options_.max_new_tokens > 1) s.cache.own = allocate_segment(model_, options_.max_new_tokens - 1, s.k, s.v);
      s.prompt = options_.prompt_offset + static_cast<uint32_t>(prompt);
      s.completion = static_cast<uint32_t>(c);
      s.prompt_length = cache.segment.length;
      s.out = &out_[prompt * static_cast<size_t>(options_.completions) + static_cast<size_t>(c)];
      if (options_.sampling.repetition_penalty != 1.0f) {
        s.seen.assign(static_cast<size_t>(model_.vocab()), 0);
        for (const int32_t id : prompts_[prompt]) s.seen[static_cast<size_t>(id)] = 1;
      }
      group.push_back(&s);
    }
    decoder_.choose(logits.unsqueeze(0).expand({options_.completions, logits.size(0)}), group.data(),
                    options_.completions);
    active_.insert(active_.end(), group.begin(), group.end());
  }

  /// Finished sequences leave the batch and give their memory back.
  void remove_done() {
    std::erase_if(active_, [](Running* s) {
      if (s->done) s->k = s->v = at::Tensor(), s->seen = {};
      return s->done;
    });
  }

  Transformer& model_;
  const std::vector<std::vector<int32_t>>& prompts_;
  const GenerateOptions& options_;
  std::vector<Completion>& out_;
  Decoder decoder_;
  std::list<Running> all_;  // addresses stay
  std::vector<Running*> active_;
};

}  // namespace

std::vector<Completion> generate(Transformer& model, const std::vector<std::vector<int32_t>>& prompts,
                                 const GenerateOptions& options, const std::atomic<bool>& abort) {
  check(model, prompts, options);
  const c10::InferenceMode inference;
  std::vector<Completion> out(prompts.size() * static_cast<size_t>(options.completions));
  for (size_t begin = 0; begin < prompts.size();) {
    const size_t end = wave_end(model, prompts, begin, options);
    Wave(model, prompts, options, out).run(begin, end, abort);
    begin = end;
  }
  return out;
}

}  // namespace fg
