// The arrows of docs/ARCHITECTURE: each layer includes only what stands below it. Prints violations; exit code 1 when there are any.
import { existsSync, readFileSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const TORCH = /^\s*#\s*include\s*[<"](torch\/|ATen\/|c10\/)/;
const NAPI = /^\s*#\s*include\s*[<"](napi\.h|node_api|js_native_api|uv\.h|v8|addon\/)/;
const CUDA = /^\s*#\s*include\s*[<"](cuda|cub\/|cooperative_groups|kernels\/cuda\/)|<<<.*>>>|\bcuda[A-Z]\w*\s*\(/;

/** Where, what must not be there, and how to say it. `except`: paths that may. */
const RULES = [
  { under: ['native/math', 'native/kernels', 'native/capi'], banned: TORCH, what: 'includes torch' },
  { under: ['native/math', 'native/kernels', 'native/capi', 'native/torch'], banned: NAPI, what: 'includes Node-API' },
  { under: ['native/math', 'native/addon'], banned: CUDA, what: 'uses CUDA' },
  { under: ['native/math'], banned: /^\s*#\s*include\s*"kernels\//, what: 'includes kernels/, which stands above it' },
  {
    // global memory by load/store/load16/store16 only, so that the simulator counts and checks every access
    under: ['native/kernels/cuda'],
    banned:
      /\b(?:t|p|a|args|rows|task|workspace)\.[\w.]+\[|[=(,!&|?:]\s*\*\s*(?:t|p|a|args|task|rows)\.\w|\bw\.(?:plan|faults|partials|ticket)\[/,
    except: ['native/kernels/cuda/platform_nvidia.h', 'native/kernels/cuda/platform.h'],
    what: 'reaches global memory without load() or store()',
  },
  {
    under: ['native/kernels/cuda'],
    banned: /\b(?:__shfl|__sync(?:threads|warp)|__ballot|threadIdx|blockIdx|blockDim|atomicAdd|asm\s+volatile|__shared__)/,
    except: ['native/kernels/cuda/platform_nvidia.h', 'native/kernels/cuda/platform.h'],
    what: 'goes around the platform header',
  },
  { under: ['native/kernels'], banned: /^\s*#\s*include\s*"capi\//, what: 'includes capi/, which stands above it' },
  { under: ['native/addon/core'], banned: TORCH, what: 'includes torch: the core works without it' },
  {
    under: ['lib'],
    banned: /\bfrom 'bindings'|require\(['"]bindings['"]\)|\.node['"`]|process\.dlopen/,
    except: ['lib/native.ts'],
    what: 'loads an addon; only lib/native.ts may',
  },
  { under: ['lib'], banned: /\bcuda(Malloc|Memcpy|Stream|Launch)\w*/, what: 'names the CUDA run-time' },
];

const isCode = (name) => /\.(h|cc|cu|cuh|cpp|ts|mjs)$/.test(name);

function filesUnder(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .sort()
    .flatMap((name) => {
      const file = join(folder, name);
      return statSync(file).isDirectory() ? filesUnder(file) : isCode(name) ? [file] : [];
    });
}

/** Comments may name anything; block comments keep their line breaks. */
function withoutComments(text) {
  return text.replace(/\/\*[\s\S]*?\*\//g, (c) => c.replace(/[^\n]/g, '')).replace(/(^|[^:])\/\/.*$/gm, '$1');
}

function ruleViolations(root, { under, banned, except = [], what }) {
  const files = under.flatMap((folder) => filesUnder(join(root, folder)));
  return files.flatMap((file) => {
    const name = relative(root, file);
    if (except.includes(name)) return [];
    return withoutComments(readFileSync(file, 'utf8'))
      .split('\n')
      .flatMap((line, i) => (banned.test(line) ? [`${name}:${i + 1}: ${what}: ${line.trim()}`] : []));
  });
}

/** The builds read these lists (sources.txt: core and engine; model_sources.txt: engine): a kernel in neither is silently not built. */
function listViolations(root) {
  const list = join(root, 'native/kernels/sources.txt');
  if (!existsSync(list)) return ['native/kernels/sources.txt is missing'];
  const lists = [list, join(root, 'native/kernels/model_sources.txt')].filter((f) => existsSync(f));
  const listed = lists.flatMap((f) => readFileSync(f, 'utf8').trim().split(/\s+/));
  const present = filesUnder(join(root, 'native/kernels/cpu'))
    .filter((f) => f.endsWith('.cc'))
    .map((f) => relative(root, f));
  return [
    ...present.filter((f) => !listed.includes(f)).map((f) => `native/kernels/sources.txt: does not list ${f}`),
    ...listed.filter((f) => !existsSync(join(root, f))).map((f) => `native/kernels/sources.txt: lists ${f}, which does not exist`),
    ...listed.filter((f, i) => listed.indexOf(f) !== i).map((f) => `native/kernels/sources.txt: lists ${f} twice`),
  ];
}

/** Every violation under `root`, one line each. */
export function layerViolations(root) {
  return [...RULES.flatMap((rule) => ruleViolations(root, rule)), ...listViolations(root)];
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const found = layerViolations(process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url)));
  for (const line of found) console.error(line);
  process.exitCode = found.length ? 1 : 0;
}
