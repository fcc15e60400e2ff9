// The API reference into docs/api (or --out DIR): node scripts/api-docs.mjs [--check] [--out DIR]. --check writes nothing.
// Fails for a symbol or an option without a docstring, a link that leads nowhere, and a type that is used but not exported.
import { Application, LogLevel } from 'typedoc';
import { SetupError, root } from './deps.mjs';
import { runAsCommand } from './run.mjs';
import { join } from 'node:path';

/** What the docstring above it explains: entries of tables and presets, and parts of a small object inside a property or a result. */
const EXPLAINED =
  /^(?:presets|algorithmConfigs|\w+ConfigOptions)\.|^[a-z]\w*\.__type\.|\.\w+\.__type\.|^(?:LossRequirements|NeedsReference|LossConfigOf|Resolved|ValueOf|OptionalLayout|\w+ConfigOf)\.__type\./;

class Collected {
  warnings = [];
  take(text) {
    const name = /^(\S+)(?: \(\w+\))?, defined in/.exec(text)?.[1];
    if (!(name && EXPLAINED.test(name) && /does not have any documentation/.test(text))) this.warnings.push(text);
  }
}

await runAsCommand(import.meta.url, async (argv) => {
  const at = argv.indexOf('--out');
  const out = at >= 0 ? argv[at + 1] : join(root, 'docs', 'api');
  const app = await Application.bootstrap({ options: join(root, 'typedoc.json'), logLevel: LogLevel.Error });
  const found = new Collected();
  app.logger.validationWarning = (text) => found.take(text);
  app.logger.warn = (text) => found.take(text);
  const project = await app.convert();
  if (!project) throw new SetupError('TypeDoc could not read lib/index.ts.', 'npm run lint says what is wrong with its types');
  app.validate(project);
  const list = found.warnings.map((text) => `  ${text}`).join('\n');
  if (found.warnings.length > 0) throw new SetupError(`The API reference has gaps:\n${list}`, 'write the docstrings');
  if (argv.includes('--check')) return;
  await app.generateDocs(project, out);
  process.stderr.write(`API reference: ${join(out, 'index.html')}\n`);
});
