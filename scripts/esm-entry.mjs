// Writes dist/index.mjs: it re-exports the CommonJS build, so that every class exists once however the package is imported.
import { createRequire } from 'node:module';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const names = Object.keys(createRequire(import.meta.url)(`${dist}cjs/index.js`))
  .filter((n) => n !== '__esModule')
  .sort();
writeFileSync(`${dist}index.mjs`, `import cjs from './cjs/index.js';\nexport const {\n${names.map((n) => `  ${n},\n`).join('')}} = cjs;\n`);
writeFileSync(`${dist}index.d.mts`, `export * from './cjs/index.js';\n`);
