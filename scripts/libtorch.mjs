// Which libtorch the engine is built with: the one the user names (LIBTORCH or --torch), else pip's in .deps/.
import { existsSync, mkdirSync, readFileSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import torchScript from './addons/torch.cjs';
import { MINIMUM_TORCH, SetupError, depsFolder, fetchSet } from './deps.mjs';

const { choiceFile, inner, locateLibtorch, remembered, torchVersion } = torchScript;
export { locateLibtorch };

const read = (path) => (existsSync(path) ? readFileSync(path, 'utf8') : '');

/** The version the folder itself claims for its libraries (build-version of a libtorch zip, version.py of a wheel), or null. */
function libraryVersion(folder) {
  const claim =
    /__version__ = '([\d.]+)/.exec(read(join(folder, 'version.py')))?.[1] ?? /^([\d.]+)/.exec(read(join(folder, 'build-version')))?.[1];
  return claim ?? null;
}

/** Checks a libtorch folder (with lib/ and include/) and returns { folder, version, cudart }; throws SetupError with the reason. */
export function inspectLibtorch(folder) {
  const remedy =
    'unset LIBTORCH to have a matching one fetched by pip, or name the folder that holds lib/libtorch_cpu.so and include/ of torch >= ' +
    MINIMUM_TORCH.join('.');
  const refuse = (reason) => {
    throw new SetupError(`The libtorch in ${folder} cannot be used: ${reason}.`, remedy);
  };
  if (!existsSync(folder)) refuse('there is no such folder');
  if (existsSync(join(folder, 'lib/x86_64-linux-gnu/libtorch_cpu.so')) || /^\/usr(\/lib(\/[^/]+)?)?\/?$/.test(folder))
    refuse("it is the distribution's own, which is too old (Debian 12 has 1.13) and spread over system folders");
  for (const lib of ['lib/libtorch_cpu.so', 'lib/libc10.so']) if (!existsSync(join(folder, lib))) refuse(`${lib} is missing`);
  const version = torchVersion(folder);
  if (!version) refuse('include/torch/version.h is missing or declares no version (headers and libraries must come from the same install)');
  const [major, minor] = version.split('.').map(Number);
  if (major < MINIMUM_TORCH[0] || (major === MINIMUM_TORCH[0] && minor < MINIMUM_TORCH[1]))
    refuse(`it is version ${version}, and ${MINIMUM_TORCH.join('.')} or newer is needed`);
  const claim = libraryVersion(folder);
  if (claim && claim !== version) refuse(`mixed versions: its headers are ${version}, its libraries ${claim}`);
  const strays = readdirSync(join(folder, 'lib')).filter((f) => /^lib(torch_cpu|c10)\.so\.\d/.test(f));
  if (strays.length) refuse(`mixed versions: ${strays.join(', ')} beside the unversioned libraries`);
  const nvidia = join(dirname(folder), 'nvidia', 'cu13', 'lib');
  return { folder: realpathSync(folder), version, nvidia: existsSync(nvidia) ? realpathSync(nvidia) : null };
}

/** The libtorch to build with. `named`: the user's --torch option; 'pip': the one pip fetches, whatever was named before. */
export function findLibtorch(named, log) {
  if (named === 'pip') rmSync(choiceFile(), { force: true });
  else if (named ?? process.env.LIBTORCH) {
    const torch = inspectLibtorch(inner(resolve(named ?? process.env.LIBTORCH)));
    mkdirSync(depsFolder, { recursive: true });
    writeFileSync(choiceFile(), JSON.stringify({ folder: torch.folder }));
    return torch;
  }
  const found = named === 'pip' ? null : remembered();
  return inspectLibtorch(found ?? join(fetchSet('torch', log), 'torch'));
}
