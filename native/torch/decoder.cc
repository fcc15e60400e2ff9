#include "torch/decoder.h"

#include <algorithm>

#include "torch/cpu_context.h"
#include "torch/dtype.h"
#include "torch/error.h"

namespace fg {

namespace {

// Small models: a chunk of sequences is computed on one thread, products included. Its size is fixed, padded with dummy
// rows where the batch ends, so that a sequence's numbers depend neither on the number of threads nor on how many
// sequences are left.
constexpr int64_t kChunk = 16;
// Weights up to this size are re-read from cache by every chunk; larger ones are read once per step by all threads
// together.
constexpr int64_t kSmallWeights = int64_t{8} << 20;
// Larger models: rows per pass, which bounds the logits.
constexpr int64_t kMaxRows = 128;

at::Tensor ids_of(Running* const* sequences, int64_t rows, int64_t padded) {
  at::Tensor ids = at::zeros({padded}, at::kLong);
  int64_t* id = ids.mutable_data_ptr<int64_t>();
  for (int64_t r = 0; r < rows; ++r) id[r] = sequences[r]->out->tokens.back();
  return ids;
}

ops::RowMap positions_of(Running* const* sequences, int64_t rows, int64_t padded) {
  ops::RowMap map{padded, 1, at::zeros({padded}, at::kLong), {}};
  int64_t* position = map.positions.mutable_data_ptr<int64_t>();
  for (int64_t r = 0; r < rows; ++r) position[r] = sequences[r]->prompt_length + sequences[r]->cache.own.length;
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

Decoder::Decoder(Transformer& model, const GenerateOptions& options)
    : model_(model), options_(options), small_(model.parameter_bytes() <= kSmallWeights) {}

at::Tensor Decoder::attend(int64_t layer, const at::Tensor& qkv, const DecodeSequence* const* sequences, int64_t rows,
                           const ops::RowMap& map) {
  const ModelConfig& c = model_.config();
  const LayerWeights& w = model_.weights().layers[static_cast<size_t>(layer)];
  const auto [q, k, v] = ops::split_heads(qkv, w.q_norm, w.k_norm, map, model_.head_params(), model_.rope(layer, 0));
  at::Tensor out = at::empty({qkv.size(0), c.heads * c.head_dim}, qkv.options());
  if (rows < out.size(0)) out.zero_();
  DecodeAttentionArgs a{};
  a.sequences = sequences;
  a.q = q.const_data_ptr();
  a.k = k.const_data_ptr();
  a.v = v.const_data_ptr();
  a.out = out.mutable_data_ptr();
  a.rows = rows;
  a.layer = layer;
  a.heads = c.heads;
  a.kv_heads = c.kv_heads;
  a.dim = c.head_dim;
  a.window = c.layer_window[static_cast<size_t>(layer)];
  a.scale = static_cast<float>(c.attention_scale);
  a.dtype = dtype_of(qkv);
  decode_attention(cpu_context(), a);
  return out;
}

void Decoder::step_rows(Running* const* sequences, int64_t rows, int64_t padded) {
  const c10::InferenceMode inference;  // per thread: region workers start with gradients enabled
  const ops::RowMap map = positions_of(sequences, rows, padded);
  std::vector<const DecodeSequence*> caches;
  for (int64_t r = 0; r < rows; ++r) caches.push_back(&sequences[r]->cache);
  const at::Tensor hidden =
      model_.layers(ids_of(sequences, rows, padded), map,
                    [&](int64_t layer, const at::Tensor& qkv) { return attend(layer, qkv, caches.data(), rows, map); });
  for (int64_t r = 0; r < rows; ++r) ++sequences[r]->cache.own.length;
  choose(model_.logits(hidden), sequences, rows);
}

void Decoder::step(std::vector<Running*>& active) {
  const auto total = static_cast<int64_t>(active.size());
  for (int64_t layer = 0; layer < model_.config().layers; ++layer) {
    int64_t longest = 0;
    for (const Running* s : active) longest = std::max(longest, s->prompt_length + s->cache.own.length + 1);
    model_.rope(layer, longest);  // grows the table here, where one thread runs
  }
  if (!small_) {
    for (int64_t at = 0; at < total; at += kMaxRows) {
      const int64_t rows = std::min(kMaxRows, total - at);
      step_rows(active.data() + at, rows, rows);
    }
    return;
  }
  const int64_t chunks = (total + kChunk - 1) / kChunk;
  at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      step_rows(active.data() + c * kChunk, std::min(kChunk, total - c * kChunk), kChunk);
  });
}

void Decoder::choose(const at::Tensor& logits, Running* const* sequences, int64_t rows) {
  const int64_t vocab = model_.vocab(), bytes = sample_workspace(vocab);
  const auto* base = static_cast<const char*>(logits.const_data_ptr());
  const int64_t row_bytes = logits.stride(0) * static_cast<int64_t>(logits.element_size());
  const DType dtype = dtype_of(logits);
  at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<char> workspace(static_cast<size_t>(bytes) + 64);
    for (int64_t r = begin; r < end; ++r) {
      Running& s = *sequences[r];
      s.row.prompt = s.prompt;
      s.row.completion = s.completion;
      s.row.token = static_cast<uint32_t>(s.out->tokens.size());
      s.row.seen = s.seen.empty() ? nullptr : s.seen.data();
      sample_row(base + r * row_bytes, vocab, dtype, options_.sampling, s.row, workspace.data());
      accept(s);
    }
  });
}

void Decoder::accept(Running& s) {
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
