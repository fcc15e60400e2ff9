// Included by the rows_*.cc of x86 inside their anonymous namespaces.

/// Denormal results cost a hundred cycles each and are below every tolerance: 0 inside a sweep.
struct FlushDenormals {
  unsigned saved = _mm_getcsr();
  FlushDenormals() { _mm_setcsr(saved | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(saved); }
};
