import { defineConfig } from 'vitest/config';

// Three projects: `unit` runs on virtual time, `tidy` checks the house rules, `e2e` starts real processes. `e2e` comes
// last and alone, so that nothing else is measured against its clocks.
const report = process.env.OSERVE_TEST_REPORT;

export default defineConfig({
  test: {
    // With OSERVE_TEST_REPORT=FILE also a JSON report, whatever command started the tests: CI counts from it.
    reporters: report ? ['default', ['json', { outputFile: report }]] : ['default'],
    projects: [
      {
        test: {
          name: 'unit',
          include: ['src/**/*.test.ts', 'test/contract/**/*.test.ts', 'test/golden/**/*.test.ts', 'test/*.test.ts'],
          exclude: ['test/tidy.test.ts'],
          testTimeout: 120_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: { name: 'tidy', include: ['test/tidy.test.ts'], testTimeout: 120_000, sequence: { groupOrder: 0 } },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          globalSetup: ['test/support/build-once.ts'],
          testTimeout: 300_000,
          hookTimeout: 120_000,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
