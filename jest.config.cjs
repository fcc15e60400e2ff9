module.exports = {
  testEnvironment: './test/support/environment.cjs',
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  // Packages that are ES modules only: Node imports them as they are, jest (CommonJS) has them transformed.
  transform: { '\\.ts$|/node_modules/(hyparquet|hysnappy|fzstd).*\\.js$': '<rootDir>/test/support/transform.cjs' },
  transformIgnorePatterns: ['/node_modules/(?!(hyparquet|hyparquet-compressors|hyparquet-writer|hysnappy|fzstd)/)'],
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' }, // sources import './x.js', which is x.ts here
  modulePathIgnorePatterns: ['<rootDir>/dist', '<rootDir>/.deps', '<rootDir>/build'],
  reporters: ['default', './test/support/summary.cjs'],
  testTimeout: 120000,
  maxWorkers: 2,
};
