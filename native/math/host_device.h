#pragma once
// Formulas are compiled for the host and for CUDA devices from the same source.
#if defined(__CUDACC__)
#define FG_HOST_DEVICE __host__ __device__
#else
#define FG_HOST_DEVICE
#endif
