// The code blocks of a page.
import * as api from '../../lib/index.js';

/** A fenced block of a page, and the comment before it. */
export interface Block {
  language: string;
  code: string;
  directive: string;
  line: number;
}

export function blocksOf(text: string): Block[] {
  return [...text.matchAll(/^(?:<!-- test: (.*) -->\n)?```(\w*)\n([\s\S]*?)^```$/gm)].map(
    ({ 1: directive = '', 2: language, 3: code, index }) => ({
      ...{ directive, language: language!, code: code!, line: text.slice(0, index).split('\n').length },
    }),
  );
}

/** Names of the package that a snippet uses without importing them, as pages do that have said so before. */
export function withImports(code: string): string {
  if (/from 'fused-grpo'/.test(code)) return code;
  const used = Object.keys(api).filter((name) => new RegExp(`\\b${name}\\b`).test(code));
  return used.length ? `import { ${used.join(', ')} } from 'fused-grpo';\n${code}` : code;
}
