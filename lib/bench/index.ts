// What the command line uses of the suite.
import { join } from 'node:path';
import { writeFileAtomic } from '../trainer/files.js';
import type { CaseResult } from './measure.js';
import { html, markdown, resultsOf } from './output.js';

export { CASES, jobs } from './suite.js';
export { caseText, compare, readResults } from './output.js';
export { benchStep } from './step.js';

/** results.json, results.md and index.html in `folder`, which is there. */
export function writeResults(folder: string, cases: CaseResult[]): void {
  const results = resultsOf(cases);
  writeFileAtomic(join(folder, 'results.json'), JSON.stringify(results, null, 1) + '\n');
  writeFileAtomic(join(folder, 'results.md'), markdown(results));
  writeFileAtomic(join(folder, 'index.html'), html(results));
}
