# The portable core: handwritten kernels and Node-API, nothing else. Built by node-gyp in seconds.
# --portable=1 (npm run prebuilds): without the building machine's C++ library.
# The functional ops' kernels are listed once, in native/kernels/sources.txt; CMakeLists.txt reads the same list (and model_sources.txt).
{
  "variables": { "portable%": "0" },
  "targets": [{
    "target_name": "core",
    "sources": [
      "<!@(node -p \"require('fs').readFileSync('native/kernels/sources.txt','utf8').trim().split(/\\s+/).join(' ')\")",
      "native/addon/common/identity.cc",
      "<!@(node -p \"require('fs').readdirSync('native/addon/core').filter(f=>f.endsWith('.cc')).sort().map(f=>'native/addon/core/'+f).join(' ')\")"
    ],
    "include_dirs": [
      "native",
      "<!(node -p \"require('path').relative('.', require('node-api-headers').include_dir)\")",
      "<!(node -p \"require('node-addon-api').include_dir\")"
    ],
    "defines": [
      "NAPI_VERSION=9", "NODE_ADDON_API_CPP_EXCEPTIONS_ALL", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
      "FG_ADDON=\"core\"", "FG_VERSION=\"<!(node scripts/identity.mjs version)\"", "FG_SOURCES=\"<!(node scripts/identity.mjs sources)\""
    ],
    "libraries": ["-ldl"],
    "cflags": ["-Wall", "-Wextra", "-Wno-unused-parameter", "-fvisibility=hidden"],
    "cflags_cc": ["-std=c++20", "-fvisibility-inlines-hidden", "-ffp-contract=off", "-fno-math-errno"],
    "conditions": [
      ["portable==1", { "ldflags": ["-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL"] }]
    ]
  }]
}
