module.exports = {
  testEnvironment: './test/support/environment.cjs',
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  transform: { '\\.ts$': '<rootDir>/test/support/transform.cjs' },
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' }, // sources import './x.js', which is x.ts here
  modulePathIgnorePatterns: ['<rootDir>/dist', '<rootDir>/.deps', '<rootDir>/build'],
  reporters: ['default', './test/support/summary.cjs'],
  testTimeout: 120000,
  maxWorkers: 2,
};
