import { expect, test } from '@jest/globals';
import { core, engine } from '../lib/native.js';

test('both addons load', () => {
  expect(core().version).toBe('0.1.0');
  expect(engine().info().torchVersion).toMatch(/^2\.\d+/);
});
