// The layer check must catch what it is there for: violations are planted in a small made-up tree.
import { expect, test } from '@jest/globals';
import { evaluate, plant, root, temporary } from './scripts.js';

const clean: Record<string, string> = {
  'native/math/a.h': '#include <cmath>\n// torch/torch.h and cudaMalloc( may be talked about\n/* #include <napi.h>\n*/\n',
  'native/kernels/sources.txt': 'native/kernels/cpu/a.cc\n',
  'native/kernels/cpu/a.cc': '#include "math/a.h"\n',
  'native/kernels/cuda/a.cu': '#include <cuda_runtime.h>\n',
  'native/torch/a.cc': '#include <ATen/ATen.h>\n#include "kernels/kernels.h"\n',
  'native/addon/engine/a.cc': '#include <napi.h>\n#include "torch/torch_min.h"\n',
  'lib/native.ts': "import bindings from 'bindings';\n",
  'lib/a.ts': "import { core } from './native.js';\n",
};
const violations = (files: Record<string, string>): string[] =>
  evaluate('check-layers.mjs', `m.layerViolations(${JSON.stringify(plant(temporary(), { ...clean, ...files }))})`);

test('a clean tree passes, and so does ours', () => {
  expect(violations({})).toEqual([]);
  expect(evaluate('check-layers.mjs', `m.layerViolations(${JSON.stringify(root)})`)).toEqual([]);
});

const planted: [string, string, string][] = [
  ['native/math/b.h', '#include <ATen/ATen.h>', 'native/math/b.h:1: includes torch'],
  ['native/kernels/cpu/a.cc', '\n#include "torch/torch_min.h"', 'native/kernels/cpu/a.cc:2: includes torch'],
  ['native/capi/fg.h', '#include <c10/core/Device.h>', 'includes torch'],
  ['native/kernels/b.h', '#include <napi.h>', 'includes Node-API'],
  ['native/math/b.h', '  #  include "addon/common/napi_min.h"', 'includes Node-API'],
  ['native/torch/b.cc', '#include <node_api.h>', 'native/torch/b.cc:1: includes Node-API'],
  ['native/torch/model/deep.h', '#include "addon/common/napi_min.h"', 'native/torch/model/deep.h:1: includes Node-API'],
  ['native/math/b.h', '#include <cuda_fp16.h>', 'uses CUDA'],
  ['native/addon/engine/b.cc', 'void f() { cudaMalloc(&p, 3); }', 'uses CUDA'],
  ['native/math/b.h', '#include "kernels/context.h"', 'stands above it'],
  ['native/addon/core/b.cc', '#include <ATen/ATen.h>', 'the core works without it'],
  ['native/kernels/cuda/b.cu', 'float v = t.logps[3];', 'without load() or store()'],
  ['native/kernels/cuda/b.cu', 'const float v = *t.logps;', 'without load() or store()'],
  ['native/kernels/cuda/b.cu', '  __syncthreads();', 'goes around the platform header'],
  ['lib/b.ts', "import bindings from 'bindings';", 'only lib/native.ts may'],
  ['lib/deep/b.ts', "require('../build/Release/core.node');", 'only lib/native.ts may'],
  ['lib/b.ts', 'process.dlopen(m, f);', 'only lib/native.ts may'],
  ['native/kernels/cpu/forgotten.cc', '', 'does not list native/kernels/cpu/forgotten.cc'],
  [
    'native/kernels/sources.txt',
    'native/kernels/cpu/a.cc native/kernels/cpu/gone.cc',
    'lists native/kernels/cpu/gone.cc, which does not exist',
  ],
  ['native/kernels/sources.txt', 'native/kernels/cpu/a.cc native/kernels/cpu/a.cc', 'twice'],
];
test.each(planted)('%s: %j', (file, text, message) => {
  const found = violations({ [file]: text + '\n' });
  expect(found).toHaveLength(1);
  expect(found[0]).toContain(message);
});
