import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { FinishedRequest, Observation, RequestView, WorkloadModel } from '../domain/index.ts';
import { exponential, logNormal, random, weightedIndex } from '../math/index.ts';
import { forecastRates, makePredictor } from '../predict/index.ts';
import { ArrivalCounter, fitWorkload, hasDrifted, posterior, posteriorOfRunning, typeOfFinished } from './index.ts';

type Running = Observation['running'][number];

/** Traffic of two kinds; short answers end within a second, long ones take a minute. */
function traffic(seconds: number, ratePerSecond: number, seed: string): FinishedRequest[] {
  const stream = random(seed);
  const requests: FinishedRequest[] = [];
  for (let at = exponential(stream, 1 / ratePerSecond); at < seconds; at += exponential(stream, 1 / ratePerSecond)) {
    const short = weightedIndex(stream, [1, 1]) === 0;
    const outputTokens = Math.max(1, Math.round(logNormal(stream, Math.log(short ? 10 : 1500), 0.3)));
    requests.push({
      arrivalSeconds: at,
      model: 'm',
      inputTokens: Math.max(1, Math.round(logNormal(stream, Math.log(200), 0.3))),
      outputTokens,
      maxTokens: 8192,
      finishedSeconds: at + 0.3 + outputTokens * 0.04,
      ttftSeconds: 0.3,
    });
  }
  return requests;
}

const viewOf = ({ arrivalSeconds, model, inputTokens, maxTokens }: FinishedRequest): RequestView => ({
  arrivalSeconds,
  model,
  inputTokens,
  maxTokens,
});
/** Of a request that still runs. */
const tokensAt = (r: FinishedRequest, now: number): number =>
  Math.max(0, Math.floor((now - r.arrivalSeconds - 0.3) / 0.04));
const runningAt = (requests: readonly FinishedRequest[], now: number): Running[] =>
  requests
    .filter((r) => r.arrivalSeconds <= now && r.finishedSeconds > now)
    .map((r) => ({ ...viewOf(r), generatedTokens: tokensAt(r, now) }));

/** What a fleet would have observed in (from, to]. */
const observed = (requests: readonly FinishedRequest[], from: number, to: number) => ({
  arrivals: requests.filter((r) => r.arrivalSeconds > from && r.arrivalSeconds <= to).map(viewOf),
  finished: requests.filter((r) => r.finishedSeconds > from && r.finishedSeconds <= to),
  running: runningAt(requests, to),
});

function counterAt(requests: readonly FinishedRequest[], now: number, options = {}, step = 10): ArrivalCounter {
  const counter = new ArrivalCounter(options);
  for (let from = 0; from < now; from += step) counter.observe(observed(requests, from === 0 ? -1 : from, from + step));
  return counter;
}

const past = traffic(3000, 5, 'past');
const model: WorkloadModel = fitWorkload({
  finished: past,
  previous: null,
  random: random(1),
  options: { typeCount: 2 },
});
const shortType = typeOfFinished(model, { model: 'm', inputTokens: 200, outputTokens: 10 });
const longType = 1 - shortType;
const sum = (values: ArrayLike<number>): number => Array.from(values).reduce((total, value) => total + value, 0);

describe('as-of counts', () => {
  const requests = traffic(600, 5, 'now');

  test('every arrival counts once, in its window, whether it ended, runs or waits', () => {
    const counter = counterAt(requests, 600);
    const windows = counter.countsByWindow(60, 600, model);
    expect(windows).toHaveLength(10);
    windows.forEach((counts, i) => {
      const arrived = requests.filter((r) => r.arrivalSeconds >= 60 * i && r.arrivalSeconds < 60 * (i + 1));
      expect(sum(counts)).toBeCloseTo(arrived.length, 6);
    });
  });

  test('finished requests count as what they were', () => {
    const counter = counterAt(requests, 600);
    const [first] = counter.countsByWindow(60, 600, model);
    const arrived = requests.filter((r) => r.arrivalSeconds < 60);
    const short = arrived.filter((r) => typeOfFinished(model, r) === shortType).length;
    expect(first![shortType]).toBeCloseTo(short, 6);
    expect(first![longType]).toBeCloseTo(arrived.length - short, 6);
  });

  test('the newest window is not biased towards short answers, as a count of finished requests is', () => {
    let [seenLong, trueLong, finishedLong, finishedAll] = [0, 0, 0, 0];
    for (let seed = 0; seed < 12; seed++) {
      const run = traffic(240, 5, `bias ${seed}`);
      const newest = counterAt(run, 240).countsByWindow(30, 240, model, 1)[0]!;
      const arrived = run.filter((r) => r.arrivalSeconds >= 210);
      seenLong += newest[longType]! / sum(newest);
      trueLong += arrived.filter((r) => typeOfFinished(model, r) === longType).length / arrived.length;
      const done = arrived.filter((r) => r.finishedSeconds <= 240);
      finishedLong += done.filter((r) => typeOfFinished(model, r) === longType).length;
      finishedAll += done.length;
    }
    expect(Math.abs(seenLong - trueLong) / 12).toBeLessThan(0.05);
    expect(finishedLong / finishedAll).toBeLessThan(0.1);
  });

  test('are revised when more is known: a request moves from its posterior to its label', () => {
    const long: FinishedRequest = {
      ...past[0]!,
      arrivalSeconds: 5,
      inputTokens: 200,
      outputTokens: 1500,
      finishedSeconds: 65,
    };
    const counter = new ArrivalCounter();
    const look = (now: number) => counter.countsByWindow(10, now, model)[0]!;
    counter.observe({ arrivals: [viewOf(long)], finished: [], running: [] });
    expect([...look(10)]).toEqual([...posterior(model, viewOf(long))]);
    counter.observe({ arrivals: [], finished: [], running: [{ ...viewOf(long), generatedTokens: 100 }] });
    expect([...look(20)]).toEqual([...posteriorOfRunning(model, viewOf(long), 100)]);
    // A request that left the running ones (preempted, queued again) keeps what its tokens said.
    counter.observe({ arrivals: [], finished: [], running: [] });
    expect([...look(30)]).toEqual([...posteriorOfRunning(model, viewOf(long), 100)]);
    counter.observe({ arrivals: [], finished: [long], running: [] });
    expect(look(70)[longType]).toBe(1);
    expect(look(70)[shortType]).toBe(0);
  });

  test('clients’ own retries are no new demand', () => {
    const counter = new ArrivalCounter();
    const view = viewOf(requests[0]!);
    const retry = { ...view, arrivalSeconds: view.arrivalSeconds + 1, isRetry: true };
    counter.observe({ arrivals: [view, retry], finished: [], running: [{ ...retry, generatedTokens: 5 }] });
    counter.observe({ arrivals: [], finished: [{ ...requests[0]!, ...retry }], running: [] });
    expect(sum(counter.countsByWindow(20, 20, model)[0]!)).toBeCloseTo(1, 9);
  });

  test('a request whose prompt turned out longer than estimated at arrival is still itself', () => {
    const counter = new ArrivalCounter();
    const arrived = { arrivalSeconds: 5.001, model: 'm', inputTokens: 40, maxTokens: 8192 };
    const neighbour = { arrivalSeconds: 5.002, model: 'm', inputTokens: 40, maxTokens: 8192 };
    counter.observe({ arrivals: [arrived, neighbour], finished: [], running: [] });
    const ended = { ...past[0]!, ...arrived, inputTokens: 200, maxTokens: 4096, outputTokens: 10, finishedSeconds: 6 };
    counter.observe({ arrivals: [], finished: [ended], running: [] });
    const counts = counter.countsByWindow(10, 10, model)[0]!;
    const waits = posterior(model, neighbour);
    expect(counts[shortType]).toBeCloseTo(1 + waits[shortType]!, 9);
    expect(sum(counts)).toBeCloseTo(2, 9);
  });

  test('requests of one instant are told apart by their lengths, and those sampled away take nobody’s place', () => {
    const at = (inputTokens: number) => ({ arrivalSeconds: 3, model: 'm', inputTokens, maxTokens: 8192 });
    const end = (inputTokens: number, outputTokens: number) => ({ ...past[0]!, ...at(inputTokens), outputTokens });
    const whole = new ArrivalCounter();
    whole.observe({ arrivals: [at(150), at(250)], finished: [end(250, 1500), end(150, 10)], running: [] });
    expect([...whole.countsByWindow(10, 10, model)[0]!].sort()).toEqual([1, 1]);
    const sampled = new ArrivalCounter({ recordsPerCell: 2 });
    const views = Array.from({ length: 50 }, (_, i) => at(100 + i));
    sampled.observe({ arrivals: views, finished: [end(1, 10), end(2, 10), end(3, 10)], running: [] });
    const untouched = new ArrivalCounter({ recordsPerCell: 2 });
    untouched.observe({ arrivals: views, finished: [], running: [] });
    expect(sampled.countsByWindow(10, 10, model)).toEqual(untouched.countsByWindow(10, 10, model));
  });

  test('another model re-labels what finished before', () => {
    const counter = counterAt(requests, 600);
    const before = counter.countsByWindow(60, 600, model);
    const renamed: WorkloadModel = { ...model, types: [...model.types].reverse(), posteriorCounts: {} };
    const after = counter.countsByWindow(60, 600, renamed);
    expect(after[0]![shortType]).toBeCloseTo(before[0]![longType]!, 6);
    expect(counter.countsByWindow(60, 600, model)).toEqual(before);
  });

  test('windows that are not wholly observed or retained are left out; the latest ones can be asked for alone', () => {
    const counter = counterAt(requests, 600, { startSeconds: 130 });
    expect(counter.countsByWindow(60, 600, model)).toHaveLength(7);
    expect(counter.countsByWindow(30, 600, model, 1)).toEqual(counter.countsByWindow(30, 600, model).slice(-1));
    expect(counterAt(requests, 600, { retentionSeconds: 200 }).countsByWindow(60, 600, model)).toHaveLength(3);
    expect(new ArrivalCounter().countsByWindow(60, 59, model)).toEqual([]);
  });

  test('silence is a window of zeros, not a missing one', () => {
    const counter = new ArrivalCounter();
    counter.observe({ arrivals: [viewOf({ ...requests[0]!, arrivalSeconds: 10 })], finished: [], running: [] });
    expect(counter.countsByWindow(60, 180, model).map((w) => Math.round(sum(w)))).toEqual([1, 0, 0]);
  });
});

describe('bounded memory', () => {
  test('more arrivals than records keep the exact total and an unbiased mix', () => {
    const requests = traffic(60, 200, 'flood');
    const counter = counterAt(requests, 60, { recordsPerCell: 128 });
    const windows = counter.countsByWindow(10, 60, model);
    windows.forEach((counts, i) => {
      const arrived = requests.filter((r) => r.arrivalSeconds >= 10 * i && r.arrivalSeconds < 10 * (i + 1)).length;
      expect(sum(counts)).toBeCloseTo(arrived, 6);
    });
    const long = windows.reduce((total, counts) => total + counts[longType]!, 0) / requests.length;
    const truth = requests.filter((r) => typeOfFinished(model, r) === longType).length / requests.length;
    // 6 × 128 samples of a fair coin: standard deviation 1.8 %.
    expect(Math.abs(long - truth)).toBeLessThan(0.07);
  });

  test('old cells make room, and what comes for a cell that is gone is counted as too late', () => {
    const counter = new ArrivalCounter({ retentionSeconds: 60, cellSeconds: 10 });
    const at = (arrivalSeconds: number) => viewOf({ ...past[0]!, arrivalSeconds });
    for (let second = 0; second < 1000; second++)
      counter.observe({ arrivals: [at(second)], finished: [], running: [] });
    expect(counter.countsByWindow(10, 1000, model).map((w) => Math.round(sum(w)))).toEqual([10, 10, 10, 10, 10, 10]);
    counter.observe({ arrivals: [at(5)], finished: [{ ...past[0]!, arrivalSeconds: 5 }], running: [] });
    expect(counter.tooLateCount).toBe(1);
    expect(counter.countsByWindow(10, 1000, model).map((w) => Math.round(sum(w)))).toEqual([10, 10, 10, 10, 10, 10]);
  });

  test('equal observations give equal counts, also where records are sampled', () => {
    const requests = traffic(60, 100, 'twice');
    const look = () => counterAt(requests, 60, { recordsPerCell: 32 }).countsByWindow(30, 60, model);
    expect(look()).toEqual(look());
  });
});

describe('what a policy may see', () => {
  /** Output lengths of requests that have not ended by `now`, dealt out among them anew; each then ends some time later. */
  function permuteFuture(requests: readonly FinishedRequest[], now: number, seed: number): FinishedRequest[] {
    const unfinished = requests.filter((r) => r.finishedSeconds > now);
    const stream = random(seed);
    const lengths = unfinished.map((r) => r.outputTokens);
    for (let i = lengths.length - 1; i > 0; i--) {
      const other = Math.floor(stream.next() * (i + 1));
      [lengths[i], lengths[other]] = [lengths[other]!, lengths[i]!];
    }
    let next = 0;
    return requests.map((r) =>
      r.finishedSeconds > now
        ? { ...r, outputTokens: lengths[next++]!, finishedSeconds: now + 1 + r.finishedSeconds - r.arrivalSeconds }
        : r,
    );
  }

  /**
   * Everything that is known at `now` from what was observed by then: types, posterior, counts. Whole requests are handed
   * in where views are asked for, true lengths and all: whoever looks at more than a view is found out.
   */
  function knowledgeAt(requests: readonly FinishedRequest[], now: number) {
    const finished = requests.filter((r) => r.finishedSeconds <= now);
    const fitted = fitWorkload({ finished, previous: null, random: random(7), options: { typeCount: 2 } });
    const counter = new ArrivalCounter();
    for (let from = 0; from < now; from += 10) {
      const to = from + 10;
      counter.observe({
        arrivals: requests.filter((r) => r.arrivalSeconds > (from || -1) && r.arrivalSeconds <= to),
        finished: requests.filter((r) => r.finishedSeconds > from && r.finishedSeconds <= to),
        running: requests
          .filter((r) => r.arrivalSeconds <= to && r.finishedSeconds > to)
          .map((r) => ({ ...r, generatedTokens: tokensAt(r, to) })),
      });
    }
    const asked = requests.filter((r) => r.arrivalSeconds <= now);
    const counts = counter.countsByWindow(10, now, fitted);
    const predictor = makePredictor('ewma', { typeCount: fitted.types.length, windowSeconds: 10 });
    counts.forEach((window, i) => {
      predictor.observe(window, 10 * (i + 1));
    });
    return {
      fitted,
      counts,
      forecast: forecastRates(predictor, 15, now),
      drifted: hasDrifted(model, finished),
      posteriors: asked.map((r) => [...posterior(fitted, r)]),
      running: asked.map((r) => [...posteriorOfRunning(fitted, r, tokensAt(r, now))]),
    };
  }

  const requests = traffic(300, 4, 'permute');

  test('permuting the output lengths of requests that have not ended changes no type, posterior, count or forecast', () => {
    fc.assert(
      fc.property(fc.integer({ min: 6, max: 30 }), fc.integer(), (tens, seed) => {
        const now = 10 * tens;
        const permuted = permuteFuture(requests, now, seed);
        expect(permuted.filter((r, i) => r.outputTokens !== requests[i]!.outputTokens).length).toBeGreaterThan(5);
        expect(knowledgeAt(permuted, now)).toEqual(knowledgeAt(requests, now));
      }),
      { numRuns: 25 },
    );
  });

  test('… and once they have ended, it does: the test above can fail', () => {
    const permuted = permuteFuture(requests, 100, 3);
    expect(knowledgeAt(permuted, 300)).not.toEqual(knowledgeAt(requests, 300));
  });
});
