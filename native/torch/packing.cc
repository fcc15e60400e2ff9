#include "torch/packing.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

namespace fg {

namespace {

/// The prompt's ids as something that can be looked up.
std::string_view prompt_of(const Sequence& s) {
  return {reinterpret_cast<const char*>(s.prompt), static_cast<size_t>(s.prompt_length) * sizeof(int32_t)};
}

class Packer {
 public:
  void add(const Sequence& s, bool shared) {
    const int64_t own = s.completion_length - 1;
    if (!shared) {
      const int64_t begin = append(s.prompt, s.prompt_length, 0);
      append(s.completion, own, s.prompt_length);
      segment(begin, -1);
      want(begin + s.prompt_length - 1, own + 1);
      return;
    }
    auto [found, fresh] = prompts_.try_emplace(prompt_of(s), -1);
    if (fresh) found->second = segment(append(s.prompt, s.prompt_length, 0), -1);
    want(segments_[found->second].end - 1, 1);
    if (own == 0) return;
    const int64_t begin = append(s.completion, own, s.prompt_length);
    segment(begin, found->second);
    want(begin, own);
  }

  PackedSequences finish() const {
    return {at::tensor(ids_, at::kLong), ops::row_map(positions_, segments_), at::tensor(wanted_, at::kLong)};
  }

 private:
  int64_t append(const int32_t* tokens, int64_t n, int64_t position) {
    const auto begin = static_cast<int64_t>(ids_.size());
    ids_.insert(ids_.end(), tokens, tokens + n);
    for (int64_t i = 0; i < n; ++i) positions_.push_back(position + i);
    return begin;
  }
  int64_t segment(int64_t begin, int64_t prefix) {
    segments_.push_back({begin, static_cast<int64_t>(ids_.size()), prefix});
    return static_cast<int64_t>(segments_.size()) - 1;
  }
  void want(int64_t row, int64_t n) {
    for (int64_t i = 0; i < n; ++i) wanted_.push_back(row + i);
  }

  std::vector<int64_t> ids_, positions_, wanted_;
  std::vector<Segment> segments_;
  std::unordered_map<std::string_view, int64_t> prompts_;  // the segment of each shared prompt
};

}  // namespace

PackedSequences pack_sequences(const std::vector<Sequence>& all, const std::vector<int64_t>& members) {
  std::unordered_map<std::string_view, int64_t> uses;
  for (const int64_t i : members) ++uses[prompt_of(all[i])];
  Packer packer;
  for (const int64_t i : members) packer.add(all[i], uses[prompt_of(all[i])] > 1);
  return packer.finish();
}

PackedSequences pack_last_rows(const std::vector<Sequence>& all, const std::vector<int64_t>& members) {
  PackedSequences packed = pack_sequences(all, members);
  std::vector<int64_t> last;
  int64_t end = 0;
  for (const int64_t i : members) {
    end += all[i].completion_length;
    last.push_back(packed.wanted.const_data_ptr<int64_t>()[end - 1]);
  }
  packed.wanted = at::tensor(last, at::kLong);
  return packed;
}

std::vector<std::vector<int64_t>> cut_sequences(const std::vector<Sequence>& all, int64_t budget) {
  std::unordered_map<std::string_view, size_t> place;  // of a prompt among the prompts
  std::vector<std::vector<int64_t>> of_prompt;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].completion_length <= 0) continue;
    const auto [found, fresh] = place.try_emplace(prompt_of(all[i]), of_prompt.size());
    if (fresh) of_prompt.emplace_back();
    of_prompt[found->second].push_back(static_cast<int64_t>(i));
  }
  std::vector<std::vector<int64_t>> parts;
  int64_t used = 0, predicted = 0;  // rows of the last part, and those of them that go through the head
  for (const auto& sequences : of_prompt) {
    bool there = false;  // the prompt, in the last part
    for (const int64_t i : sequences) {
      const int64_t own = all[i].completion_length - 1, whole = own + all[i].prompt_length;
      const int64_t tokens = all[i].completion_length;
      if (parts.empty() || used + (there ? own : whole) > budget || predicted + tokens > budget)
        parts.emplace_back(), used = predicted = 0, there = false;
      used += there ? own : whole;
      predicted += tokens;
      there = true;
      parts.back().push_back(i);
    }
  }
  return parts;
}

std::vector<std::vector<int64_t>> cut_pairs(const std::vector<Sequence>& all, int64_t budget) {
  std::vector<std::vector<int64_t>> parts;
  int64_t used = 0;
  for (size_t i = 0; i + 1 < all.size(); i += 2) {
    const Sequence &a = all[i], &b = all[i + 1];
    const int64_t prompts = prompt_of(a) == prompt_of(b) ? a.prompt_length : a.prompt_length + b.prompt_length;
    const int64_t rows = prompts + a.completion_length - 1 + b.completion_length - 1;
    if (parts.empty() || used + rows > budget) parts.emplace_back(), used = 0;
    used += rows;
    parts.back().push_back(static_cast<int64_t>(i)), parts.back().push_back(static_cast<int64_t>(i) + 1);
  }
  return parts;
}

}  // namespace fg
