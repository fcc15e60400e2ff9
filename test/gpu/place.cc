#include "place.h"

namespace fg::check {

Place::~Place() {
  for (void* p : owned_) cudaFree(p);
}

void* Place::allocate(size_t bytes) {
  void* p = nullptr;
  MUST(cudaMalloc(&p, bytes + 16));
  owned_.push_back(p);
  return p;
}

void* Place::upload(const void* from, size_t bytes) {
  void* p = allocate(bytes);
  MUST(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice));
  return p;
}

/// Under a sanitizer scratch stays as it is, else it is filled with garbage.
void* Place::workspace(int64_t rows) {
  const size_t bytes = cuda::workspace_bytes(rows);
  void* p = allocate(bytes);
  if (!quick) MUST(cudaMemset(p, int(rows * 37 & 255), bytes));
  return p;
}

cuda::Outcome* Place::outcome() {
  void* p = allocate(sizeof(cuda::Outcome));
  MUST(cudaMemset(p, 0xA5, sizeof(cuda::Outcome)));
  return static_cast<cuda::Outcome*>(p);
}

cuda::Outcome Place::finish(const cuda::Launch& l, const cuda::Outcome* from) {
  cuda::Outcome o;
  launched(l);
  MUST(cudaDeviceSynchronize());
  MUST(cudaMemcpy(&o, from, sizeof o, cudaMemcpyDeviceToHost));
  for (const Block& b : outputs_) MUST(cudaMemcpy(b.host, b.memory, b.bytes, cudaMemcpyDeviceToHost));
  return o;
}

}  // namespace fg::check
