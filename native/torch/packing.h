#pragma once
// Prompts and completions as rows of one batch: no padding, and a prompt that several completions share is there once.
#include <vector>

#include "torch/model/ops.h"

namespace fg {

struct Sequence {
  const int32_t* prompt;
  int64_t prompt_length;  // at least 1 unless the completion is empty
  const int32_t* completion;
  int64_t completion_length;
};

struct PackedSequences {
  at::Tensor ids;  // (rows) int64. A sequence's last token predicts nothing that is asked for: it has no row
  ops::RowMap rows;
  at::Tensor wanted;  // (N) int64: the row that predicts each completion token, sequence after sequence
};
/// `members`: which of `all`, in that order.
PackedSequences pack_sequences(const std::vector<Sequence>& all, const std::vector<int64_t>& members);

/// The sequence as one whose last token has a row too: a token of the completion more, which is never read.
inline Sequence with_last_row(Sequence s) {
  ++s.completion_length;
  return s;
}
/// As pack_sequences, but of each sequence (made by with_last_row) only the last row is wanted: (members) of them.
PackedSequences pack_last_rows(const std::vector<Sequence>& all, const std::vector<int64_t>& members);

/// Cuts the sequences that have a completion into batches of at most `budget` rows and as many completion tokens, which
/// have logits (a prompt's last row has one for every completion of one token). A longer sequence is alone. Those
/// of one prompt come one after another, otherwise the order is kept.
std::vector<std::vector<int64_t>> cut_sequences(const std::vector<Sequence>& all, int64_t budget);

/// Cuts pairs (sequences 2 p and 2 p + 1) into batches of at most `budget` rows, in order, none of them in two. A
/// larger pair is alone.
std::vector<std::vector<int64_t>> cut_pairs(const std::vector<Sequence>& all, int64_t budget);

}  // namespace fg
