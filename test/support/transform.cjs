// TypeScript to CommonJS for jest, file by file (types are checked by `npm run lint`).
const { createHash } = require('node:crypto');
const ts = require('typescript');

const compilerOptions = {
  module: ts.ModuleKind.CommonJS,
  target: ts.ScriptTarget.ES2022,
  esModuleInterop: true,
  inlineSourceMap: true,
  inlineSources: true,
};

module.exports = {
  process: (source, fileName) => ({ code: ts.transpileModule(source, { compilerOptions, fileName }).outputText }),
  getCacheKey: (source, fileName) =>
    createHash('sha256')
      .update(ts.version + fileName + source)
      .update(JSON.stringify(compilerOptions))
      .digest('hex'),
};
