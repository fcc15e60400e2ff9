#!/usr/bin/env bash
# The CUDA kernels on a real GPU, without Node: gpu-check.sh [tests|sanitize|large|nccl|bench ...] (none named: all of them).
# Needs nvcc, g++, an NVIDIA GPU; Python with torch for the comparison in `bench`, compute-sanitizer for `sanitize`.
# Exit code: 0 all passed, 1 something failed, 2 wrong use or no compiler, 3 no device (everything has been compiled).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(tests sanitize large nccl bench)
for part in "${parts[@]}"; do
  case $part in
    tests | sanitize | large | nccl | bench) ;;
    *) echo "gpu-check: unknown part '$part' (tests, sanitize, large, nccl, bench)" >&2; exit 2 ;;
  esac
done

find_nvcc() {
  local candidate
  for candidate in "${CUDA_HOME:+$CUDA_HOME/bin/nvcc}" "$(command -v nvcc)" /usr/local/cuda/bin/nvcc \
    .deps/nvcc/nvidia/cu13/bin/nvcc; do
    if [ -n "$candidate" ] && "$candidate" --version >/dev/null 2>&1; then
      readlink -f "$candidate"
      return
    fi
  done
}
nvcc=$(find_nvcc)
[ -n "$nvcc" ] || { echo 'gpu-check: no nvcc on PATH, in CUDA_HOME or in .deps/nvcc; where there is Node, npm run cuda:compile fetches one' >&2; exit 2; }
home=$(dirname "$(dirname "$nvcc")")
cxx=${CXX:-g++}
command -v "$cxx" >/dev/null || { echo "gpu-check: no $cxx" >&2; exit 2; }

# the run-time library is named by its file: pip's toolkit has neither lib64 nor libcudart.so
cudart=
include=
for target in "$home" "$home/targets/x86_64-linux" "$home/targets/sbsa-linux"; do
  [ -n "$include" ] || { [ -f "$target/include/cuda_runtime.h" ] && include=$target/include; }
  for lib in "$target"/lib64/libcudart.so* "$target"/lib/libcudart.so*; do
    [ -n "$cudart" ] || { [ -f "$lib" ] && cudart=$lib; }
  done
done
[ -n "$cudart" ] && [ -n "$include" ] || { echo "gpu-check: no libcudart or cuda_runtime.h beside $nvcc" >&2; exit 2; }

capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ')
case $capability in
  '' | *[!0-9]*) architectures='80 90a' ;;
  90) architectures=90a ;;
  *) architectures=$capability ;;
esac
gencode=()
for a in $architectures; do gencode+=(-gencode "arch=compute_$a,code=sm_$a"); done

folder=build-cuda/gpu-check-objects.${architectures// /-}
program=build-cuda/gpu-check
mkdir -p "$folder"
stamp="$("$nvcc" --version | tail -n 2) $("$cxx" --version | head -n 1)"
if [ "$(cat "$folder/stamp" 2>/dev/null)" != "$stamp" ]; then rm -f "$folder"/*.o; fi
printf '%s\n' "$stamp" >"$folder/stamp"

sources=$(ls native/kernels/cuda/*.cu && grep cpu/ native/kernels/sources.txt && ls test/gpu/*.cc)
newest_header() { find "$@" \( -name '*.h' -o -name '*.inl' \) -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-; }
kernel_header=$(newest_header native/kernels native/math)
any_header=$(newest_header native/kernels native/math test/gpu)

compile() {
  local source=$1 object newest=$kernel_header
  object=$folder/$(basename "$source").o
  case $source in test/gpu/*) newest=$any_header ;; esac
  if [ -f "$object" ] && [ "$object" -nt "$source" ] && [ "$object" -nt "$newest" ]; then return 0; fi
  case $source in
    *.cu) "$nvcc" -std=c++20 -O3 -lineinfo -I native --expt-relaxed-constexpr "${gencode[@]}" -c "$source" -o "$object.part" ;;
    *) "$cxx" -std=c++20 -O3 -ffp-contract=off -fno-math-errno -Wall -Wextra -Wno-unused-parameter \
      -I native -isystem "$include" -c "$source" -o "$object.part" ;;
  esac || { echo "gpu-check: $source does not compile" >&2; rm -f "$object.part"; return 1; }
  mv "$object.part" "$object"
}

echo "compiling for sm_${architectures// /, sm_}"
started=$SECONDS
failed=0
running=0
for source in $sources; do
  if [ $running -ge 2 ]; then
    wait -n || failed=1
    running=$((running - 1))
  fi
  compile "$source" &
  running=$((running + 1))
done
while [ $running -gt 0 ]; do
  wait -n || failed=1
  running=$((running - 1))
done
[ $failed = 0 ] || exit 1
objects=()
for source in $sources; do objects+=("$folder/$(basename "$source").o"); done
"$cxx" "${objects[@]}" "$cudart" -Wl,-rpath,"$(dirname "$cudart")" -lpthread -o "$program" || exit 1
exchanges=build-cuda/gpu-check-nccl
"$cxx" -std=c++20 -O2 -Wall -Wextra -I native -isystem "$include" test/gpu/nccl/main.cc native/torch/nccl.cc "$cudart" \
  -Wl,-rpath,"$(dirname "$cudart")" -ldl -o "$exchanges" || exit 1
echo "compiled in $((SECONDS - started)) s"

"$program" device || exit $? # 3: it has said that there is none

failures=0
# All of it ends within ten minutes: what is left of them, at most $1 seconds (at least 1).
within() {
  local left=$((585 - SECONDS))
  [ $left -gt "$1" ] && left=$1
  [ $left -gt 1 ] || left=1
  echo $left
}
# part seconds command...: a part that dies or takes too long has failed, whatever it has printed
run() {
  local name=$1 limit code
  limit=$(within "$2")
  shift 2
  echo "== $name"
  timeout -k 5 "$limit" "$@"
  code=$?
  [ $code -le 1 ] || echo "$name: 0 passed, 1 failed (exit code $code; 124: longer than $limit s)"
  [ $code = 0 ] || failures=$((failures + 1))
}

sanitize() {
  local sanitizer=$home/bin/compute-sanitizer tool log passed=0 bad=0
  echo '== sanitize'
  [ -x "$sanitizer" ] || sanitizer=$(command -v compute-sanitizer)
  if [ -z "$sanitizer" ]; then
    echo 'sanitize: skipped, compute-sanitizer is not installed'
    echo 'sanitize: 0 passed, 0 failed'
    return
  fi
  for tool in memcheck racecheck synccheck initcheck; do
    log=$folder/$tool.log
    if timeout -k 5 "$(within 50)" "$sanitizer" --tool "$tool" --error-exitcode 9 "$program" tests --quick >"$log" 2>&1; then
      passed=$((passed + 1))
      echo "$tool: clean; $(grep ' passed, ' "$log" | tail -n 1)"
    else
      bad=$((bad + 1))
      echo "$tool: FAILED"
      head -n 40 "$log"
      tail -n 5 "$log"
    fi
  done
  echo "sanitize: $passed passed, $bad failed"
  [ $bad = 0 ] || failures=$((failures + 1))
}

# pip's NCCL is nowhere where the loader looks
find_nccl() {
  local candidate python=${PYTHON:-$(command -v python3 || command -v python)}
  for candidate in "${FUSED_GRPO_NCCL:-}" .deps/torch/nvidia/nccl/lib/libnccl.so.2 \
    "$("${python:-false}" -c 'import nvidia.nccl; print(list(nvidia.nccl.__path__)[0] + "/lib/libnccl.so.2")' 2>/dev/null)"; do
    if [ -f "$candidate" ]; then
      echo "$candidate"
      return
    fi
  done
}

for part in "${parts[@]}"; do
  case $part in
    nccl) FUSED_GRPO_NCCL=$(find_nccl) run nccl 90 "$exchanges" "$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ')" ;;
    tests) run tests 150 "$program" tests ;;
    sanitize) sanitize ;;
    large) run large 60 "$program" large ;;
    bench)
      results=${OUT:-build-cuda}/bench.jsonl
      : >"$results"
      run bench 60 "$program" bench "$results"
      python=${PYTHON:-$(command -v python3 || command -v python)}
      if [ -n "$python" ]; then
        limit=$(within 100)
        timeout -k 5 "$limit" "$python" test/gpu/bench.py "$results" $((limit * 7 / 10)) || echo 'bench.py: stopped (out of time, or it failed); the kernels are not judged by it'
      else
        echo 'bench.py: skipped, no Python'
      fi
      ;;
  esac
done
if command -v node >/dev/null; then echo "gpu-check: Node is here: npm run test:cuda runs jest's case tables on this GPU as well"; fi
[ $failures = 0 ]
