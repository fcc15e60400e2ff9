// What this addon is, as text in the file: scripts/addons/binary.cjs reads it without loading the addon, and
// lib/native.ts refuses one of another version. The build gives the values.
#include <features.h>  // __GLIBC__; musl has the header too, and defines nothing

#ifndef FG_ADDON
#error "FG_ADDON, FG_VERSION, FG_SOURCES: see binding.gyp and CMakeLists.txt"
#endif
#ifndef FG_TORCH_VERSION
#define FG_TORCH_VERSION ""
#endif
#ifdef __GLIBC__
#define FG_LIBC "glibc"
#else
#define FG_LIBC "musl"
#endif
#define FG_TEXT_(x) #x
#define FG_TEXT(x) FG_TEXT_(x)

extern "C" {
extern const char fused_grpo_addon[];
extern const char fused_grpo_version[];

// clang-format off
__attribute__((used)) const char fused_grpo_addon[] =
    "FUSED_GRPO_ADDON={\"addon\":\"" FG_ADDON "\",\"version\":\"" FG_VERSION "\",\"sources\":\"" FG_SOURCES
    "\",\"napi\":" FG_TEXT(NAPI_VERSION) ",\"libc\":\"" FG_LIBC "\",\"torch\":\"" FG_TORCH_VERSION "\"}";
// clang-format on
const char fused_grpo_version[] = FG_VERSION;
}
