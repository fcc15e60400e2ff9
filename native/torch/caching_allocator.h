#pragma once
// Memory of libtorch's large CPU tensors, kept for the next one. A training step frees and allocates the same sizes
// over and over; glibc hands such blocks back to the kernel, which clears every page again at the next touch (10 to 15
// % of a step). Only libtorch's tensors go through here: the host process's malloc and its settings are left alone.

#include <cstddef>

namespace fg {

/// Makes libtorch allocate CPU tensors here. Once per process; later calls do nothing.
void install_caching_allocator();

/// Bytes in use now; from here on memory_peak() is the most that was in use at once. Large tensors only.
size_t start_memory_peak();
size_t memory_peak();

/// Gives back what is kept and not in use.
void release_cached_memory();

}  // namespace fg
