// Edges of the token-sized ops, each with the answer worked out by hand; test/cuda/value_ops.test.ts has the same on the CUDA kernels.
import { test } from '@jest/globals';
import { checkEdge } from '../support/edge.js';
import { EDGES } from '../support/value_edges.js';

test.each(EDGES.map((edge) => [edge.name, edge] as const))('%s', (_name, edge) => checkEdge(edge));
