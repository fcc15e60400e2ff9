#include "torch/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unordered_set>

#include "torch/error.h"
#include "torch/json_reader.h"

namespace fg {

namespace {

constexpr uint64_t kMaxHeader = 100'000'000;

void read_shape(JsonReader& json, TensorEntry& t) {
  json.expect('[');
  if (json.take(']')) return;
  do {
    const uint64_t dim = json.unsigned_integer();
    if (dim > static_cast<uint64_t>(INT64_MAX)) json.fail("a dimension of '" + t.name + "' is too large");
    t.shape.push_back(static_cast<int64_t>(dim));
  } while (json.take(','));
  json.expect(']');
}

void read_offsets(JsonReader& json, TensorEntry& t) {
  json.expect('[');
  t.begin = json.unsigned_integer();
  json.expect(',');
  t.end = json.unsigned_integer();
  json.expect(']');
}

TensorEntry read_entry(JsonReader& json, std::string name) {
  TensorEntry t;
  t.name = std::move(name);
  std::unordered_set<std::string> seen;
  json.expect('{');
  if (!json.take('}')) {
    do {
      const std::string key = json.string();
      if (!seen.insert(key).second) json.fail("'" + t.name + "' has two entries '" + key + "'");
      json.expect(':');
      if (key == "dtype")
        t.dtype = json.string();
      else if (key == "shape")
        read_shape(json, t);
      else if (key == "data_offsets")
        read_offsets(json, t);
      else
        json.skip_value();
    } while (json.take(','));
    json.expect('}');
  }
  for (const char* key : {"dtype", "shape", "data_offsets"})
    if (!seen.contains(key)) json.fail("'" + t.name + "' has no " + key);
  return t;
}

void read_metadata(JsonReader& json, SafetensorsHeader& header) {
  json.expect('{');
  if (json.take('}')) return;
  std::unordered_set<std::string> seen;
  do {
    std::string key = json.string();
    if (!seen.insert(key).second) json.fail("__metadata__ has two entries '" + key + "'");
    json.expect(':');
    header.metadata.emplace_back(std::move(key), json.string());
  } while (json.take(','));
  json.expect('}');
}

void read_header(JsonReader& json, SafetensorsHeader& header) {
  std::unordered_set<std::string> seen;
  json.expect('{');
  if (!json.take('}')) {
    do {
      std::string key = json.string();
      if (!seen.insert(key).second) json.fail("two tensors are named '" + key + "'");
      json.expect(':');
      if (key == "__metadata__")
        read_metadata(json, header);
      else
        header.tensors.push_back(read_entry(json, std::move(key)));
    } while (json.take(','));
    json.expect('}');
  }
  json.finish();
}

/// Bytes that shape and dtype ask for; overflow is an error, not a small number.
uint64_t byte_size(const TensorEntry& t, const std::string& path) {
  const int item = safetensors_item_size(t.dtype);
  if (item == 0) throw model_error(path + ": tensor '" + t.name + "' has the unknown dtype '" + t.dtype + "'");
  uint64_t bytes = static_cast<uint64_t>(item);
  for (const int64_t dim : t.shape)
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(dim), &bytes))
      throw model_error(path + ": the shape of tensor '" + t.name + "' overflows 64 bits");
  return bytes;
}

void check_layout(SafetensorsHeader& header, uint64_t data_size, const std::string& path) {
  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t at = 0;
  for (const TensorEntry& t : header.tensors) {
    if (t.end < t.begin) throw model_error(path + ": tensor '" + t.name + "' ends before it begins");
    if (t.begin != at) throw model_error(path + ": tensor '" + t.name + "' overlaps another one or leaves a hole");
    if (t.end > data_size)
      throw model_error(path + ": tensor '" + t.name + "' lies beyond the end of the file (is it cut off?)");
    if (t.end - t.begin != byte_size(t, path))
      throw model_error(path + ": tensor '" + t.name + "' has " + std::to_string(t.end - t.begin) +
                        " bytes, which its shape and dtype do not give");
    at = t.end;
  }
  if (at != data_size)
    throw model_error(path + ": " + std::to_string(data_size - at) + " bytes of the file belong to no tensor");
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const unsigned char c : text) {
    if (c == '"' || c == '\\')
      (out += '\\') += static_cast<char>(c);
    else if (c < 0x20) {
      static constexpr char kHex[] = "0123456789abcdef";
      (out += "\\u00") += kHex[c >> 4];
      out += kHex[c & 15];
    } else
      out += static_cast<char>(c);
  }
  return out + '"';
}

}  // namespace

int safetensors_item_size(const std::string& dtype) {
  static constexpr std::pair<const char*, int> kSizes[] = {
      {"F32", 4},  {"BF16", 2},    {"F16", 2},     {"F64", 8},     {"I64", 8}, {"U64", 8},
      {"I32", 4},  {"U32", 4},     {"I16", 2},     {"U16", 2},     {"I8", 1},  {"U8", 1},
      {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"C64", 8}};
  for (const auto& [name, size] : kSizes)
    if (dtype == name) return size;
  return 0;
}

SafetensorsHeader parse_safetensors(const uint8_t* bytes, uint64_t size, const std::string& path) {
  if (size < 8) throw model_error(path + ": too short to be a safetensors file (" + std::to_string(size) + " bytes)");
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | bytes[i];
  if (length > kMaxHeader)
    throw model_error(path + ": not a safetensors file (header of " + std::to_string(length) + " bytes)");
  if (length > size - 8) throw model_error(path + ": the header lies beyond the end of the file (is it cut off?)");
  SafetensorsHeader header;
  header.data_start = 8 + length;
  const char* text = reinterpret_cast<const char*>(bytes + 8);
  JsonReader json(text, text + length, path);
  if (length == 0 || text[0] != '{') json.fail("it must begin with '{'");
  read_header(json, header);
  check_layout(header, size - header.data_start, path);
  return header;
}

std::string safetensors_header(const std::vector<TensorEntry>& tensors,
                               const std::vector<std::pair<std::string, std::string>>& metadata) {
  std::string text = "{\"__metadata__\":{";
  for (size_t i = 0; i < metadata.size(); ++i)
    text += (i ? "," : "") + quoted(metadata[i].first) + ":" + quoted(metadata[i].second);
  text += "}";
  uint64_t at = 0;
  for (const TensorEntry& t : tensors) {
    text += "," + quoted(t.name) + ":{\"dtype\":" + quoted(t.dtype) + ",\"shape\":[";
    for (size_t i = 0; i < t.shape.size(); ++i) text += (i ? "," : "") + std::to_string(t.shape[i]);
    const uint64_t end = at + byte_size(t, "writing");
    text += "],\"data_offsets\":[" + std::to_string(at) + "," + std::to_string(end) + "]}";
    at = end;
  }
  text += "}";
  return text.append((8 - text.size() % 8) % 8, ' ');
}

MappedFile::MappedFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw io_error("Could not open " + path + ": " + std::strerror(errno));
  struct stat info{};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw io_error(path + " is not a regular file");
  }
  size_ = static_cast<uint64_t>(info.st_size);
  if (size_ > 0) {
    void* at = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED) {
      const int code = errno;
      ::close(fd);
      throw io_error("Could not map " + path + ": " + std::strerror(code));
    }
    data_ = static_cast<const uint8_t*>(at);
  }
  ::close(fd);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<uint8_t*>(data_), size_);
}

}  // namespace fg
