// Type-checked rules where they find bugs (floating promises, unsafe values); style is prettier's.
import tseslint from 'typescript-eslint';
import js from '@eslint/js';

const node = Object.fromEntries(
  [
    'process',
    'console',
    'URL',
    'Buffer',
    'performance',
    'setTimeout',
    'clearTimeout',
    'setInterval',
    'clearInterval',
    'setImmediate',
    'AbortController',
    'AbortSignal',
    'structuredClone',
    'TextEncoder',
    'TextDecoder',
    'SharedArrayBuffer',
    'Atomics',
    'fetch',
  ].map((name) => [name, 'readonly']),
);

const unused = { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrorsIgnorePattern: '^_', ignoreRestSiblings: true };

export default tseslint.config(
  {
    ignores: [
      'dist/',
      'build/',
      'build-engine/',
      'prebuilds/',
      'build-capi/',
      'build-capi-asan/',
      'build-core-asan/',
      'docs/api/',
      'test/types/consumer/', // compiled by a test, mistakes and all
      'build-cuda/',
      'build-simulator/',
      '.deps/',
      'node_modules/',
      'runs/',
      'coverage/',
      'demo/**/*.json',
    ],
  },
  js.configs.recommended,
  { files: ['**/*.{mjs,cjs,js}'], languageOptions: { ecmaVersion: 2024, globals: node }, rules: { 'no-unused-vars': ['error', unused] } },
  {
    files: ['**/*.cjs'],
    languageOptions: {
      sourceType: 'commonjs',
      globals: { ...node, require: 'readonly', module: 'writable', exports: 'writable', __dirname: 'readonly' },
    },
  },
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { project: ['./tsconfig.test.json'], tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off', // noUncheckedIndexedAccess asks for many
      '@typescript-eslint/no-unused-vars': ['error', unused],
      '@typescript-eslint/require-await': 'off', // an interface may want a promise
      '@typescript-eslint/restrict-template-expressions': 'off',
      eqeqeq: ['error', 'always', { null: 'ignore' }],
    },
  },
  {
    // tests poke at wrong types on purpose
    files: ['test/**/*.ts', 'benchmarks/**/*.ts'],
    rules: {
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
      '@typescript-eslint/no-require-imports': 'off',
    },
  },
);
