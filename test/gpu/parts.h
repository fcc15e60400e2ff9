#pragma once
// The parts of gpu-check; each returns its exit code.

namespace fg::check {

int tests();                  // the ops against their CPU twins on the same bytes
int large();                  // matrices beyond 32 bits, on the device alone
int bench(const char* path);  // timing; a JSON line per matrix is added to the file, unless `path` is null

}  // namespace fg::check
