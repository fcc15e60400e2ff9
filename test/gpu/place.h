#pragma once
// Where an op runs: on the host with the arrays themselves, on the device with copies that run() brings home.
#include "support.h"

namespace fg::check {

class Place {
 public:
  const bool device;
  explicit Place(bool on_device) : device(on_device) {}
  Place(const Place&) = delete;
  ~Place();

  template <class T>
  T* in(const std::vector<T>& v) {
    if (v.empty()) return nullptr;
    if (!device) return const_cast<T*>(v.data());
    return static_cast<T*>(upload(v.data(), v.size() * sizeof(T)));
  }
  template <class T>
  T* out(std::vector<T>* v) {
    const size_t bytes = v->size() * sizeof(T);
    // under a sanitizer nothing hides an output that is not written, except bytes: they hold what lies between rows too
    T* p = device && quick && sizeof(T) > 1 && bytes > 0 ? static_cast<T*>(allocate(bytes)) : in(*v);
    if (device && p) outputs_.push_back({v->data(), p, bytes});
    return p;
  }
  /// On the device: queues `launch(workspace, outcome)`, waits, and copies every output back.
  template <class Launching>
  cuda::Outcome run(int64_t rows, Launching launch) {
    cuda::Outcome* found = outcome();
    return finish(launch(workspace(rows), found), found);
  }

 private:
  struct Block {
    void *host, *memory;
    size_t bytes;
  };
  void* allocate(size_t bytes);
  void* upload(const void* from, size_t bytes);
  void* workspace(int64_t rows);
  cuda::Outcome* outcome();
  cuda::Outcome finish(const cuda::Launch& l, const cuda::Outcome* from);

  std::vector<void*> owned_;
  std::vector<Block> outputs_;
};

}  // namespace fg::check
