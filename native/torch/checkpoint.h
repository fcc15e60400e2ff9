#pragma once
// Weights on disk: reading one or several safetensors files as one set of tensors, and replacing a file atomically.
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "torch/safetensors.h"
#include "torch/torch_min.h"

namespace fg {

/// Where weights come from: files, or another model.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual bool has(const std::string& name) const = 0;
  virtual std::vector<std::string> names() const = 0;
  /// Copies tensor `name` into `into`, converting to its dtype. The shapes must be equal: ERR_MODEL names the tensor.
  virtual void copy_to(const std::string& name, at::Tensor into) const = 0;
};

class Checkpoint : public TensorSource {
 public:
  /// Maps and checks `files`. Throws CodedError: ERR_IO (cannot be opened), ERR_MODEL (not valid, or a tensor occurs
  /// twice).
  explicit Checkpoint(const std::vector<std::string>& files);

  bool has(const std::string& name) const override { return entries_.contains(name); }
  std::vector<std::string> names() const override;
  /// F32, BF16 or F16 on disk; anything else is an error.
  void copy_to(const std::string& name, at::Tensor into) const override;

 private:
  struct Located {
    const MappedFile* file;
    uint64_t start;
    TensorEntry entry;
  };
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::unordered_map<std::string, Located> entries_;
};

/// Writes tensors (float32, bfloat16 or float16; any device, any strides) to `path`: a temporary file in the same
/// folder, fsync, rename, fsync of the folder. A crash leaves the old file or the new one. Throws CodedError ERR_IO and
/// removes the temporary file.
void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, at::Tensor>>& tensors);

}  // namespace fg
