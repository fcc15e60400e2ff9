// What the command line uses of the suite.
import { join } from 'node:path';
import { availableParallelism } from 'node:os';
import { capabilities } from '../capabilities.js';
import { writeFileAtomic } from '../trainer/files.js';
import type { CaseResult } from './measure.js';
import { html, markdown, resultsOf } from './output.js';
import { Peers } from './peers/peers.js';
import { peersPython, type PythonSetup } from './peers/python.js';

export { CASES, PEER_CASES, jobs } from './suite.js';
export { caseText, compare, readResults } from './output.js';
export { benchStep } from './step.js';
export { PeerFailure } from './peers/worker.js';

/** The peers' Python, found or made; throws PeerFailure with the reason why there is none. */
export async function findPeers(setup: PythonSetup): Promise<Peers> {
  const env = { ...setup.env }; // as it is before our engine sets its own way of waiting for threads
  const python = await peersPython({ ...setup, env });
  return new Peers(python, {
    env,
    threads: capabilities().threads ?? availableParallelism(),
    signal: setup.signal,
  });
}

/** results.json, results.md and index.html in `folder`, which is there. */
export function writeResults(folder: string, cases: CaseResult[], peers?: Peers): void {
  const results = resultsOf(cases, peers?.versions);
  writeFileAtomic(join(folder, 'results.json'), JSON.stringify(results, null, 1) + '\n');
  writeFileAtomic(join(folder, 'results.md'), markdown(results));
  writeFileAtomic(join(folder, 'index.html'), html(results));
}
