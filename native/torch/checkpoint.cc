#include "torch/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "torch/error.h"

namespace fg {

namespace {

at::ScalarType scalar_type_of(const std::string& dtype, const std::string& name) {
  if (dtype == "F32") return at::kFloat;
  if (dtype == "BF16") return at::kBFloat16;
  if (dtype == "F16") return at::kHalf;
  throw model_error("Tensor '" + name + "' has dtype " + dtype + "; only F32, BF16 and F16 weights can be loaded");
}

const char* dtype_name(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "F32";
    case at::kBFloat16:
      return "BF16";
    case at::kHalf:
      return "F16";
    default:
      throw model_error(std::string("cannot save weights of type ") + c10::toString(type));
  }
}

std::string shape_text(at::IntArrayRef shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

/// A file that removes itself unless it was renamed to its final name.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string final_path)
      : final_(std::move(final_path)), path_(final_ + ".tmp-" + std::to_string(::getpid())) {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd_ < 0) fail("Could not create");
  }
  ~TemporaryFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!done_) ::unlink(path_.c_str());
  }
  void write(const void* data, uint64_t size) {
    const char* p = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t n = ::write(fd_, p, std::min<uint64_t>(size, 1u << 30));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) fail("Could not write");
      p += n;
      size -= static_cast<uint64_t>(n);
    }
  }
  void commit() {
    if (::fsync(fd_) != 0) fail("Could not flush");
    const int fd = fd_;
    fd_ = -1;
    if (::close(fd) != 0) fail("Could not close");
    if (::rename(path_.c_str(), final_.c_str()) != 0) fail("Could not rename to " + final_ + ":");
    done_ = true;
    const size_t slash = final_.rfind('/');
    const int folder = ::open(slash == std::string::npos ? "." : final_.substr(0, slash + 1).c_str(),
                              O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
      ::fsync(folder);  // some file systems cannot; the file itself is safe
      ::close(folder);
    }
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw io_error(what + " " + path_ + ": " + std::strerror(errno));
  }
  std::string final_, path_;
  int fd_ = -1;
  bool done_ = false;
};

}  // namespace

Checkpoint::Checkpoint(const std::vector<std::string>& files) {
  for (const std::string& path : files) {
    files_.push_back(std::make_unique<MappedFile>(path));
    const MappedFile* file = files_.back().get();
    SafetensorsHeader header = parse_safetensors(file->data(), file->size(), path);
    for (TensorEntry& entry : header.tensors) {
      std::string name = entry.name;
      if (!entries_.emplace(name, Located{file, header.data_start, std::move(entry)}).second)
        throw model_error("Tensor '" + name + "' occurs in more than one file of the checkpoint (again in " + path +
                          ")");
    }
  }
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> all;
  for (const auto& [name, located] : entries_) all.push_back(name);
  std::sort(all.begin(), all.end());
  return all;
}

void Checkpoint::copy_to(const std::string& name, at::Tensor into) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw model_error("The checkpoint has no tensor '" + name + "'");
  const Located& at = found->second;
  const at::ScalarType type = scalar_type_of(at.entry.dtype, name);
  if (into.sizes() != at::IntArrayRef(at.entry.shape))
    throw model_error("Tensor '" + name + "' has shape " + shape_text(at.entry.shape) + " but config.json asks for " +
                      shape_text(into.sizes()));
  if (into.numel() == 0) return;
  // The data section need not be aligned to the element size, so copy bytes first and convert after.
  at::Tensor raw = at::empty(at.entry.shape, at::TensorOptions().dtype(type));
  std::memcpy(raw.mutable_data_ptr(), at.file->data() + at.start + at.entry.begin, at.entry.end - at.entry.begin);
  at::NoGradGuard no_grad;
  into.copy_(raw);
}

void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  std::vector<TensorEntry> entries;
  for (const auto& [name, tensor] : tensors)
    entries.push_back({name, dtype_name(tensor.scalar_type()), tensor.sizes().vec(), 0, 0});
  const std::string header = safetensors_header(entries, {{"format", "pt"}});
  TemporaryFile file(path);
  uint8_t length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<uint8_t>(static_cast<uint64_t>(header.size()) >> (8 * i));
  file.write(length, 8);
  file.write(header.data(), header.size());
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor plain = tensor.detach().cpu().contiguous();
    file.write(plain.const_data_ptr(), static_cast<uint64_t>(plain.nbytes()));
  }
  file.commit();
}

}  // namespace fg
