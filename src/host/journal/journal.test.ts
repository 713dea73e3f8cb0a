import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'libsql';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Decision, SwitchPlan, TickRecord } from '../../core/domain/index.ts';
import { SwitchExecution } from '../../core/switching/index.ts';
import { type JournalOptions, SqliteJournal } from './journal.ts';
import { JournalError } from './journal-error.ts';

let directory: string;
const open: SqliteJournal[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'oserve-journal-'));
});
afterEach(() => {
  for (const journal of open.splice(0)) journal.close();
  rmSync(directory, { recursive: true, force: true });
});

function openJournal(options: Partial<JournalOptions> = {}): SqliteJournal {
  const journal = new SqliteJournal({ directory, run: 'run-1', ...options });
  open.push(journal);
  return journal;
}

function close(journal: SqliteJournal): void {
  journal.close();
  open.splice(open.indexOf(journal), 1);
}

const emptyPlan: SwitchPlan = {
  id: 's1',
  from: [],
  to: [],
  kept: [],
  leaving: [],
  arriving: [],
  steps: [],
  bytes: 0,
  links: [],
  seconds: 0,
  lowerBoundSeconds: 0,
};

const record = (tick: number, decision: Decision = { kind: 'none' }, why = 'nothing to do'): TickRecord => ({
  tick,
  kind: 'slow',
  atSeconds: tick * 60,
  seen: {
    arrivals: 1,
    finished: 1,
    queued: 0,
    running: 0,
    arrivalRate: [0.5],
    deployment: '1xTP8',
    lostGpus: 0,
    switchInProgress: null,
  },
  types: [],
  predicted: null,
  considered: [],
  search: null,
  chosen: '1xTP8',
  decision,
  why,
  versions: { workload: 1, routing: 1, profile: 'p1' },
  work: { searchNodes: 0, simulatedRequests: 0 },
});

const routing = {
  version: 1,
  workload: { version: 1, fittedToSeconds: 0, types: [], posteriorCounts: {} },
  assignment: { typeIds: [], classKeys: [], share: [], variant: { kind: 'plain' as const } },
};
const switchRecord = (why: string) => record(1, { kind: 'switch', plan: emptyPlan, routing }, why);
const began = new SwitchExecution({
  ...emptyPlan,
  steps: [{ replica: 'r1' as never, action: 'drain', seconds: 1, after: [], bytes: 0 }],
  leaving: [
    {
      id: 'r1' as never,
      model: 'm',
      gpuKind: 'H100-80GB',
      strategy: { tensorParallel: 1, pipelineParallel: 1 },
      gpus: [0],
    },
  ],
}).toJSON();
const ended = { ...began, phase: 'ended' as const, outcome: 'done' as const };

test('records come back whole and in order, also after the journal was closed and opened again', () => {
  const journal = openJournal();
  for (let tick = 0; tick < 5; tick++) journal.append(record(tick));
  expect(journal.recentTicks(2)).toEqual([record(3), record(4)]);
  close(journal);
  expect(
    openJournal()
      .recentTicks(100)
      .map(({ tick }) => tick),
  ).toEqual([0, 1, 2, 3, 4]);
});

test('a switch is open from its first step to its outcome, across restarts', () => {
  const journal = openJournal();
  expect(journal.openSwitch()).toBeNull();
  journal.switchStep({ state: began, atSeconds: 10, note: 'begun' });
  journal.switchStep({ state: began, atSeconds: 12, note: 'drain r1 started' });
  close(journal);

  const next = openJournal({ run: 'run-1' });
  const found = next.openSwitch()!;
  expect(found).toMatchObject({ id: 's1', run: 'run-1', openedSeconds: 10, changedSeconds: 12 });
  expect(SwitchExecution.fromJSON(found.state).plan).toEqual(began.plan);
  next.switchStep({ state: ended, atSeconds: 15, note: 'done' });
  expect(next.openSwitch()).toBeNull();
  expect(next.switchNotes('s1').map(({ note }) => note)).toEqual(['begun', 'drain r1 started', 'done']);
});

test('what a run left is found by itself alone: its newest switch, ended or not, and its ticks, newest first', () => {
  const journal = openJournal();
  journal.switchStep({ state: ended, atSeconds: 10, note: 'done' });
  for (let tick = 0; tick < 3; tick++) journal.append(record(tick));
  expect(journal.lastSwitch()).toMatchObject({ id: 's1', openedSeconds: 10, state: { outcome: 'done' } });
  expect([...journal.ticksOfRun(2)]).toEqual([record(2), record(1)]);
  close(journal);

  const other = openJournal({ run: 'run-2' });
  expect(other.lastSwitch()).toBeNull();
  expect([...other.ticksOfRun(10)]).toEqual([]);
});

test('a window of history is replaced when its counts are revised', () => {
  const journal = openJournal();
  journal.keepHistory({ windowEndSeconds: 60, windowSeconds: 60, counts: { a: 1 } });
  journal.keepHistory({ windowEndSeconds: 120, windowSeconds: 60, counts: { a: 2 } });
  journal.keepHistory({ windowEndSeconds: 60, windowSeconds: 60, counts: { a: 1.5, b: 0.5 } });
  expect(journal.history(10).map(({ windowEndSeconds, counts }) => [windowEndSeconds, counts])).toEqual([
    [60, { a: 1.5, b: 0.5 }],
    [120, { a: 2 }],
  ]);
});

test('what is older than the limit goes, and the newest stays', () => {
  const journal = openJournal({ keptTicks: 50 });
  for (let tick = 0; tick < 1000; tick++) journal.append(record(tick));
  const kept = journal.recentTicks(10_000).map(({ tick }) => tick);
  expect(kept.length).toBeGreaterThanOrEqual(50);
  expect(kept.length).toBeLessThanOrEqual(250);
  expect(kept.at(-1)).toBe(999);
});

test('the file stays below its largest size however much is written', () => {
  const maxBytes = 400 * 1024;
  const journal = openJournal({ maxBytes });
  for (let tick = 0; tick < 400; tick++) journal.append(record(tick, { kind: 'none' }, 'x'.repeat(5000)));
  expect(journal.problem).toBeNull();
  expect(journal.recentTicks(1)[0]!.tick).toBe(399);
  close(journal);
  expect(statSync(join(directory, 'journal.db')).size).toBeLessThanOrEqual(maxBytes + 4096);
});

describe('when the disk is full', () => {
  const tooLong = 'x'.repeat(1_000_000);

  test('plain ticks are dropped, the problem is reported once, and so is its end', () => {
    const problems: (string | undefined)[] = [];
    const journal = openJournal({
      maxBytes: 200 * 1024,
      onProblem: (problem) => problems.push(problem?.code),
    });
    journal.append(record(1, { kind: 'none' }, tooLong));
    journal.append(record(2, { kind: 'none' }, tooLong));
    expect(journal.problem?.message).toMatch(/Cannot write a tick record to the journal in .*disk is full/);
    journal.append(record(3));
    expect(problems).toEqual(['journal_failed', undefined]);
    expect(journal.recentTicks(10).map(({ tick }) => tick)).toEqual([3]);
  });

  test('no switch starts: its record and its steps throw', () => {
    const journal = openJournal({ maxBytes: 200 * 1024 });
    expect(() => journal.append(switchRecord(tooLong))).toThrow(JournalError);
    expect(() =>
      journal.switchStep({ state: { ...began, why: tooLong }, atSeconds: 1, note: 'drain r1 started' }),
    ).toThrow(/Cannot write a step of switch s1/);
    expect(journal.openSwitch()).toBeNull();
  });
});

describe('a directory that cannot be used is one clear sentence', () => {
  test('a file stands in its place', () => {
    writeFileSync(join(directory, 'file'), '');
    expect(() => openJournal({ directory: join(directory, 'file', 'state') })).toThrow(
      /Cannot open the journal .*ENOTDIR/,
    );
  });

  test('another pool holds it', () => {
    openJournal();
    expect(() => openJournal()).toThrow(/journal\.lock is held by another running oserve/);
  });

  test('the file is no journal', () => {
    writeFileSync(join(directory, 'journal.db'), 'something else '.repeat(100));
    expect(() => openJournal()).toThrow(/Cannot open the journal .*not a database/);
    expect(readFileSync(join(directory, 'journal.db'), 'utf8')).toMatch(/^something else/);
  });

  test('a newer oserve wrote it', () => {
    close(openJournal());
    const database = new Database(join(directory, 'journal.db'));
    database.exec('PRAGMA user_version = 99');
    database.close();
    expect(() => openJournal()).toThrow(/has version 99; this oserve knows up to 1/);
  });
});
