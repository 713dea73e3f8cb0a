import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sharedDataTest } from '../../../test/support/shared-data.ts';
import { GPU_KINDS, MODELS } from '../../core/domain/index.ts';
import { fittedStepTime } from '../../core/replica/index.ts';
import { worldStepTime } from '../../world/index.ts';
import { calibrate, loadProfile, loadProfiles, writeProfile } from './index.ts';
import { readKernelTables } from './kernel-tables.ts';
import { numbers, readRows } from './read-table.ts';

function inFolder<T>(use: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'oserve-profiles-'));
  try {
    return use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('there is a committed profile of every kind of GPU, with its errors and sources', () => {
  const profiles = loadProfiles();
  expect(profiles.map(({ gpuKind }) => gpuKind).sort()).toEqual(GPU_KINDS.map(({ name }) => name).sort());
  for (const { fits, sources } of profiles) {
    expect(sources.length).toBeGreaterThan(0);
    expect(fits.map(({ part }) => part)).toContain('host');
    for (const fit of fits) expect(fit.heldOutMedianError).toBeLessThan(0.3);
  }
});

test('a profile that is not there, or broken, is named with what to do', () => {
  inFolder((folder) => {
    expect(() => loadProfile('H100-80GB', folder)).toThrow(/no profile of H100-80GB/);
    writeFileSync(join(folder, 'x.json'), '{');
    expect(() => loadProfiles(folder)).toThrow(/x\.json is not a profile/);
    writeFileSync(join(folder, 'x.json'), '{"gpuKind":"x"}');
    expect(() => loadProfiles(folder)).toThrow(/no gpuKind or no coefficients/);
  });
});

test('measurements that are not there say where they are looked for; a broken row says its line', () => {
  inFolder((folder) => {
    expect(() => readKernelTables('H100-80GB', folder)).toThrow(/aic_gemm\.csv\.gz are not there/);
    expect(() => readKernelTables('T4', folder)).toThrow(/no kernel measurements of T4/);
    const file = join(folder, 'table.csv');
    writeFileSync(file, 'a,b\n1,"x, y"\n2\n');
    expect(() => readRows(file)).toThrow(/table\.csv:3: 1 fields; expected 2/);
    writeFileSync(file, 'a,b\n1,"x, y"\n,z\n');
    const rows = readRows(file);
    expect(rows).toEqual([
      { a: '1', b: 'x, y' },
      { a: '', b: 'z' },
    ]);
    expect([...numbers(rows, 'a', 10)]).toEqual([10, Number.NaN]);
  });
});

sharedDataTest('a committed profile is what calibrate makes of the shared data', () => {
  const numbersOf = (value: unknown): number[] =>
    typeof value === 'number' ? [value] : Object.values(value as object).flatMap(numbersOf);
  const fresh = numbersOf(calibrate(['A100-80GB'])[0]!.coefficients);
  const committed = numbersOf(loadProfile('A100-80GB').coefficients);
  expect(fresh).toHaveLength(committed.length);
  // A last bit that another machine's exp() rounds differently may lead the search to a neighbouring point.
  fresh.forEach((value, i) => {
    expect(Math.abs(value / committed[i]! - 1)).toBeLessThan(0.02);
  });
});

test('a written profile is read back as it was, to six digits', () => {
  inFolder((folder) => {
    const profile = loadProfile('H200');
    writeProfile(profile, folder);
    expect(loadProfile('H200', folder)).toEqual(profile);
  });
});

sharedDataTest('fitted and measured step times agree on everyday batches, but not exactly', () => {
  const tables = [readKernelTables('H100-80GB')];
  const world = worldStepTime({ tables, models: MODELS, seed: 1 });
  const fitted = fittedStepTime(loadProfiles());
  const batches = [
    [0, 0, 16, 16_000, 16],
    [0, 0, 64, 64_000, 64],
    [2048, 2048 * 1024, 0, 0, 1],
    [1984, 1984 * 3000, 64, 64_000, 65],
  ] as const;
  for (const tensorParallel of [2, 4, 8]) {
    const replicaClass = {
      model: 'llama2-70b',
      gpuKind: 'H100-80GB',
      strategy: { tensorParallel, pipelineParallel: 1 },
    };
    const [measured, planned] = [world(replicaClass, 'r0'), fitted(replicaClass, 'r0')];
    for (const [prefill, pairs, decodes, context, sequences] of batches) {
      // The mean over many seconds leaves the factor of this replica.
      let sum = 0;
      for (let at = 0; at < 200; at++) sum += measured.stageSeconds(prefill, pairs, decodes, context, sequences, at);
      const ratio = sum / 200 / planned.stageSeconds(prefill, pairs, decodes, context, sequences, 0);
      expect(ratio).not.toBe(1);
      expect(Math.abs(Math.log(ratio))).toBeLessThan(0.25);
    }
  }
});
