#pragma once
// The safetensors format: an 8-byte little-endian header length, a JSON header, then the tensors' bytes without holes.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace fg {

struct TensorEntry {
  std::string name;
  std::string dtype;  // as written: "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes from the start of the data section
};

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // sorted by `begin`
  std::vector<std::pair<std::string, std::string>> metadata;
  uint64_t data_start = 0;  // offset of the data section in the file
};

/// Bytes per element of a dtype name, 0 when it is not one of safetensors'.
int safetensors_item_size(const std::string& dtype);

/// Parses and checks a whole file of `size` bytes: header length (at most 100 MB), strict JSON, no duplicate keys,
/// shapes whose product does not overflow, byte ranges that match shape and dtype, lie end to end and fill the file
/// exactly. Throws CodedError ERR_MODEL, in words that name `path` and the tensor.
SafetensorsHeader parse_safetensors(const uint8_t* bytes, uint64_t size, const std::string& path);

/// A read-only mapping of a whole file. The file must not be truncated while it is mapped (reading would raise SIGBUS):
/// map, copy, unmap.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  const uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }

 private:
  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
};

/// Text of the JSON header for tensors laid end to end in the given order (begin and end are ignored), padded with
/// blanks to 8 bytes.
std::string safetensors_header(const std::vector<TensorEntry>& tensors,
                               const std::vector<std::pair<std::string, std::string>>& metadata);

}  // namespace fg
