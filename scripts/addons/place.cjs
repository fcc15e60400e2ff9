// Where this copy of the package lies, which version it is, and how its user calls it. CommonJS, like everything in this folder: the
// library loads addons synchronously, and the scripts must work before anything is built.
'use strict';
const { existsSync, readFileSync } = require('node:fs');
const { join } = require('node:path');

/** The package's own folder, with a slash at its end. */
const root = join(__dirname, '..', '..', '/');
const version = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version;

/** Where fetched libraries live. */
const depsFolder = () => process.env.FUSED_GRPO_DEPS || join(root, '.deps');

/** A checkout of the repository, and not an installed package. */
const isCheckout = () => existsSync(join(root, 'lib'));

/** How a command of ours is run in the project that installed this copy. */
function runner() {
  if (/[\\/]\.pnpm[\\/]/.test(root)) return 'pnpm exec fused-grpo';
  if (/[\\/]\.yarn[\\/]/.test(root) || process.versions.pnp) return 'yarn fused-grpo';
  return 'npx fused-grpo';
}

module.exports = { root, version, depsFolder, isCheckout, runner };
