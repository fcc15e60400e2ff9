#include "torch/decoder.h"

#include <algorithm>
#include <cstdlib>

#include "torch/cpu_context.h"
#include "torch/dtype.h"
#include "torch/error.h"
#include "torch/team.h"

namespace fg {

namespace {

// Megabytes of float32 weights up to which a thread computes whole steps alone, with a packed copy that stays in its
// cache. FUSED_GRPO_PACKED_MB overrides.
constexpr double kPackedMb = 64;
// Steps that a thread makes before the sequences that are left are dealt out anew, and an abort is noticed.
constexpr int64_t kStepsAtOnce = 16;
constexpr int64_t kRowsPerThread = 4;  // fewer are not worth waking a thread for

int64_t position_of(const Running& s) { return s.prompt_length + s.cache.own.length; }

at::Tensor ids_of(Running* const* sequences, int64_t rows) {
  at::Tensor ids = at::empty({rows}, at::kLong);
  int64_t* id = ids.mutable_data_ptr<int64_t>();
  for (int64_t r = 0; r < rows; ++r) id[r] = sequences[r]->out->tokens.back();
  return ids;
}

ops::RowMap positions_of(Running* const* sequences, int64_t rows) {
  ops::RowMap map{at::empty({rows}, at::kLong), {}, 0};
  int64_t* position = map.positions.mutable_data_ptr<int64_t>();
  for (int64_t r = 0; r < rows; ++r) position[r] = position_of(*sequences[r]);
  return map;
}

}  // namespace

int64_t cache_bytes_per_position(const Transformer& model) {
  const ModelConfig& c = model.config();
  return 2 * c.layers * c.kv_heads * c.head_dim * static_cast<int64_t>(c10::elementSize(model.dtype()));
}

CacheSegment allocate_segment(const Transformer& model, int64_t positions, at::Tensor& k, at::Tensor& v) {
  const ModelConfig& c = model.config();
  const int64_t capacity = (positions + kCacheBlock - 1) / kCacheBlock * kCacheBlock;
  const auto options = at::TensorOptions().dtype(model.dtype());
  k = at::empty({c.layers, c.kv_heads, c.head_dim, capacity}, options);
  v = at::empty({c.layers, c.kv_heads, capacity, c.head_dim}, options);
  return {k.mutable_data_ptr(), v.mutable_data_ptr(), 0, capacity};
}

Decoder::Decoder(Transformer& model, const GenerateOptions& options) : model_(model), options_(options) {
  const char* wanted = std::getenv("FUSED_GRPO_PACKED_MB");
  alone_ = model.parameter_count() * 4e-6 <= (wanted ? std::atof(wanted) : kPackedMb);
  const bool transposed = model.config().naming == Naming::gpt2;
  if (alone_ || !transposed) layers_.emplace(model, alone_);
}

at::Tensor Decoder::attend(int64_t layer, const at::Tensor& qkv, const DecodeSequence* const* sequences, int64_t rows,
                           const ops::RowMap& map) {
  const ModelConfig& c = model_.config();
  const LayerWeights& w = model_.weights().layers[static_cast<size_t>(layer)];
  const auto [q, k, v] = ops::split_heads(qkv, w.q_norm, w.k_norm, map, model_.head_params(), model_.rope(layer, 0));
  at::Tensor out = at::empty({qkv.size(0), c.heads * c.head_dim}, qkv.options());
  DecodeAttentionArgs a = decode_attention_args(model_, layer, sequences, rows);
  a.q = q.const_data_ptr();
  a.k = k.const_data_ptr();
  a.v = v.const_data_ptr();
  a.out = out.mutable_data_ptr();
  decode_attention(cpu_context(), a);
  return out;
}

void Decoder::step_rows(Running* const* sequences, int64_t rows) {
  const ops::RowMap map = positions_of(sequences, rows);
  std::vector<const DecodeSequence*> caches;
  for (int64_t r = 0; r < rows; ++r) caches.push_back(&sequences[r]->cache);
  const at::Tensor hidden = model_.layers(ids_of(sequences, rows), map, [&](int64_t layer, const at::Tensor& qkv) {
    return attend(layer, qkv, caches.data(), rows, map);
  });
  for (int64_t r = 0; r < rows; ++r) ++sequences[r]->cache.own.length;
  choose(model_.logits(hidden), sequences, rows);
}

/// The sequences' caches, and their last tokens into the workspace.
std::vector<const DecodeSequence*> feed(Running* const* sequences, int64_t rows, DecodeLayers::Workspace& w) {
  std::vector<const DecodeSequence*> caches;
  for (int64_t r = 0; r < rows; ++r) {
    caches.push_back(&sequences[r]->cache);
    w.ids[r] = sequences[r]->out->tokens.back();
    w.positions[r] = position_of(*sequences[r]);
  }
  return caches;
}

void Decoder::step_together(Running* const* sequences, int64_t rows) {
  if (!workspace_) workspace_.emplace(*layers_);
  const auto caches = feed(sequences, rows, *workspace_);
  run_team(at::get_num_threads(), [&] { layers_->run(*workspace_, caches.data(), rows); });
  for (int64_t r = 0; r < rows; ++r) ++sequences[r]->cache.own.length;
  choose(workspace_->logits, sequences, rows);
}

void Decoder::steps_alone(std::vector<Running*> mine) const {
  DecodeLayers::Workspace w(*layers_);
  std::vector<char> sampling(static_cast<size_t>(sample_workspace(model_.vocab())) + 64);
  const auto done = [](const Running* s) { return s->done; };
  for (int64_t step = 0; step < kStepsAtOnce && !mine.empty(); ++step) {
    for (size_t at = 0; at < mine.size(); at += DecodeLayers::kMaxRows)
      step_alone(mine.data() + at, std::min<int64_t>(DecodeLayers::kMaxRows, mine.size() - at), w, sampling.data());
    std::erase_if(mine, done);
  }
}

void Decoder::step_alone(Running* const* sequences, int64_t rows, DecodeLayers::Workspace& w, char* sampling) const {
  const auto caches = feed(sequences, rows, w);
  const auto* logits = static_cast<const char*>(layers_->run(w, caches.data(), rows));
  const int64_t row_bytes = model_.vocab() * size_of(dtype_of(w.logits));
  for (int64_t r = 0; r < rows; ++r) {
    ++sequences[r]->cache.own.length;
    choose_one(logits + r * row_bytes, dtype_of(w.logits), *sequences[r], sampling);
  }
}

void Decoder::advance(std::vector<Running*>& active) {
  const auto total = static_cast<int64_t>(active.size());
  int64_t longest = 0;
  for (const Running* s : active) longest = std::max(longest, position_of(*s) + 1);
  const int64_t limit = alone_ ? std::min(model_.max_positions(), longest + kStepsAtOnce) : longest;
  for (int64_t layer = 0; layer < model_.config().layers; ++layer)
    model_.rope(layer, limit);  // grows the table here, where one thread runs
  if (!alone_) {
    for (int64_t at = 0; at < total; at += DecodeLayers::kMaxRows) {
      const int64_t rows = std::min(DecodeLayers::kMaxRows, total - at);
      layers_ ? step_together(active.data() + at, rows) : step_rows(active.data() + at, rows);
    }
    return;
  }
  const int64_t shares = std::clamp<int64_t>(total / kRowsPerThread, 1, at::get_num_threads());
  at::parallel_for(0, shares, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      steps_alone({active.begin() + total * i / shares, active.begin() + total * (i + 1) / shares});
  });
}

void Decoder::choose(const at::Tensor& logits, Running* const* sequences, int64_t rows) {
  const int64_t vocab = model_.vocab(), bytes = sample_workspace(vocab);
  const auto* base = static_cast<const char*>(logits.const_data_ptr());
  const int64_t row_bytes = logits.stride(0) * static_cast<int64_t>(logits.element_size());
  const DType dtype = dtype_of(logits);
  at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<char> workspace(static_cast<size_t>(bytes) + 64);
    for (int64_t r = begin; r < end; ++r) choose_one(base + r * row_bytes, dtype, *sequences[r], workspace.data());
  });
}

void Decoder::choose_one(const void* logits, DType dtype, Running& s, char* workspace) const {
  s.row.prompt = s.prompt;
  s.row.completion = s.completion;
  s.row.token = static_cast<uint32_t>(s.out->tokens.size());
  s.row.seen = s.seen.empty() ? nullptr : s.seen.data();
  sample_row(logits, model_.vocab(), dtype, options_.sampling, s.row, workspace);
  accept(s);
}

void Decoder::accept(Running& s) const {
  if (s.row.status != SampleStatus::ok)
    throw CodedError("ERR_NON_FINITE", "The model's logits are not finite: prompt " +
                                           std::to_string(s.prompt - options_.prompt_offset) + ", completion " +
                                           std::to_string(s.completion) + ", token " + std::to_string(s.row.token));
  const int32_t token = s.row.chosen;
  s.out->tokens.push_back(token);
  s.out->logps.push_back(s.row.logp);
  if (!s.seen.empty()) s.seen[static_cast<size_t>(token)] = 1;
  bool stopped = std::find(options_.eos.begin(), options_.eos.end(), token) != options_.eos.end();
  if (!options_.stop.empty()) {
    s.out->stop_at = s.matcher.add((*options_.token_bytes)[static_cast<size_t>(token)]);
    stopped = stopped || s.out->stop_at >= 0;
  }
  s.out->stopped = stopped;
  s.done = stopped || static_cast<int64_t>(s.out->tokens.size()) >= options_.max_new_tokens;
}

}  // namespace fg
