import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { FinishedRequest, Random, WorkloadModel } from '../domain/index.ts';
import { logNormal, random } from '../math/index.ts';
import { fitWorkload, hasDrifted, posterior, posteriorOfRunning, refreshWorkload, typeOfFinished } from './index.ts';

/** A cluster to draw requests from: median lengths, spread of their logs, and who sends them. */
interface Cluster {
  readonly input: number;
  readonly output: number;
  readonly sigma?: number;
  readonly tenant?: string;
  readonly model?: string;
}

const chat: Cluster = { input: 100, output: 800, tenant: 'chat' };
const code: Cluster = { input: 4000, output: 20, tenant: 'code' };
const summary: Cluster = { input: 4000, output: 700, tenant: 'summary' };
const label: Cluster = { input: 60, output: 3, tenant: 'label' };
const clusters = [chat, code, summary, label];

function drawFinished(from: readonly Cluster[], count: number, stream: Random, startSeconds = 0): FinishedRequest[] {
  return Array.from({ length: count }, (_, i) => {
    const { input, output, sigma = 0.3, tenant, model = 'm' } = from[i % from.length]!;
    const outputTokens = Math.max(1, Math.round(logNormal(stream, Math.log(output), sigma)));
    const arrivalSeconds = startSeconds + i * 0.2;
    return {
      arrivalSeconds,
      model,
      inputTokens: Math.max(1, Math.round(logNormal(stream, Math.log(input), sigma))),
      outputTokens,
      maxTokens: [1024, 4096, 8192].find((limit) => limit >= outputTokens)!,
      finishedSeconds: arrivalSeconds + outputTokens * 0.02,
      ttftSeconds: 0.2,
      ...(tenant === undefined ? {} : { tenant }),
    };
  });
}

const fitTo = (
  finished: FinishedRequest[],
  previous: WorkloadModel | null = null,
  options = {},
  seed = 1,
): WorkloadModel => fitWorkload({ finished, previous, random: random(seed), options });
const sum = (values: ArrayLike<number>): number => Array.from(values).reduce((total, value) => total + value, 0);

describe('types', () => {
  test('are the clusters that there are, with their mean lengths and samples of their own members', () => {
    const finished = drawFinished(clusters, 4000, random('clusters'));
    const model = fitTo(finished);
    expect(model.types).toHaveLength(4);
    for (const { input, output } of clusters) {
      const type = model.types[typeOfFinished(model, { model: 'm', inputTokens: input, outputTokens: output })]!;
      // Log-normal: the mean is e^{σ²/2} = 1.046 medians.
      expect(type.inputTokens / (1.046 * input)).toBeCloseTo(1, 1);
      expect(type.outputTokens / (1.046 * output)).toBeCloseTo(1, 1);
      expect(type.samples).toHaveLength(256);
      const real = new Set(finished.map((r) => `${r.inputTokens},${r.outputTokens}`));
      for (const [i, o] of type.samples) {
        expect(real.has(`${i},${o}`)).toBe(true);
        expect(typeOfFinished(model, { model: 'm', inputTokens: i, outputTokens: o })).toBe(model.types.indexOf(type));
      }
    }
    expect(model.fittedToSeconds).toBe(Math.max(...finished.map((r) => r.finishedSeconds)));
  });

  test('"auto" finds the number of clusters between 2 and 8', () => {
    const more = [...clusters, { input: 800, output: 120 }];
    for (const truth of [2, 3, 4, 5])
      expect(
        fitTo(drawFinished(more.slice(0, truth), 3000, random(`k ${truth}`)), null, { typeCount: 'auto' }).types,
      ).toHaveLength(truth);
  });

  test('belong to one LLM each, and requests of one do not move the types of another', () => {
    const mine = drawFinished(clusters, 2000, random('mine'));
    const theirs = drawFinished(
      [
        { ...chat, model: 'other' },
        { ...label, model: 'other' },
      ],
      1000,
      random('theirs'),
    );
    const together = fitTo([...mine, ...theirs]);
    const alone = fitTo(mine);
    expect(together.types.filter((type) => type.model === 'm').map((type) => [type.logInput, type.logOutput])).toEqual(
      alone.types.map((type) => [type.logInput, type.logOutput]),
    );
    for (const request of theirs) expect(together.types[typeOfFinished(together, request)]!.model).toBe('other');
    expect(typeOfFinished(together, { model: 'third', inputTokens: 1, outputTokens: 1 })).toBe(-1);
    expect(sum(posterior(together, { model: 'third', inputTokens: 1, maxTokens: 1 }))).toBe(0);
  });

  test('equal seeds give equal models, whatever order the requests are given in', () => {
    const finished = drawFinished(clusters, 1500, random('order'));
    expect(fitTo(finished)).toEqual(fitTo(finished));
    const reversed = fitTo([...finished].reverse());
    const forward = fitTo(finished);
    reversed.types.forEach((type, j) => {
      expect(type.logInput).toBeCloseTo(forward.types[j]!.logInput, 6);
      expect(type.id).toBe(forward.types[j]!.id);
    });
  });

  test('a handful of requests makes few types, and none at all makes no types', () => {
    expect(fitTo([]).types).toEqual([]);
    expect(fitTo(drawFinished(clusters, 3, random(1))).types).toHaveLength(1);
    expect(fitTo(drawFinished(clusters, 20, random(1))).types).toHaveLength(2);
    const equal = drawFinished([{ ...chat, sigma: 0 }], 500, random(1));
    expect(fitTo(equal).types).toHaveLength(1);
  });

  test('survive JSON: a model that travelled to the gateway says the same', () => {
    const model = fitTo(drawFinished(clusters, 1000, random('json')));
    const travelled = JSON.parse(JSON.stringify(model)) as WorkloadModel;
    for (const request of drawFinished(clusters, 200, random('asked'))) {
      expect(typeOfFinished(travelled, request)).toBe(typeOfFinished(model, request));
      expect(posterior(travelled, request)).toEqual(posterior(model, request));
    }
  });
});

describe('ids across re-fits', () => {
  test('stay with their clusters when traffic keeps its shape, whatever the seed and the mix', () => {
    let model = fitTo(drawFinished(clusters, 2000, random('first')));
    const ids = clusters.map(
      (c) => model.types[typeOfFinished(model, { model: 'm', inputTokens: c.input, outputTokens: c.output })]!.id,
    );
    for (let round = 1; round <= 8; round++) {
      const mix = clusters.flatMap((cluster, k) => new Array<Cluster>(1 + ((k + round) % 4)).fill(cluster));
      model = fitTo(drawFinished(mix, 2000, random(`round ${round}`), 500 * round), model, {}, round);
      expect(model.version).toBe(round + 1);
      clusters.forEach((c, k) => {
        const type = model.types[typeOfFinished(model, { model: 'm', inputTokens: c.input, outputTokens: c.output })]!;
        expect(type.id).toBe(ids[k]);
      });
    }
  });

  test('follow a cluster that moves slowly', () => {
    let model = fitTo(drawFinished([chat, code], 1000, random('slow')), null, { typeCount: 2 });
    const id = (input: number, output: number) =>
      model.types[typeOfFinished(model, { model: 'm', inputTokens: input, outputTokens: output })]!.id;
    const moving = id(100, 800);
    for (let step = 1; step <= 10; step++) {
      const input = 100 * 1.3 ** step;
      model = fitTo(drawFinished([{ ...chat, input }, code], 1000, random(`slow ${step}`), 300 * step), model, {
        typeCount: 2,
      });
      expect(id(input, 800)).toBe(moving);
    }
  });

  test('are new for a cluster that was not there, and are never used again', () => {
    const first = fitTo(drawFinished([chat, code], 1000, random('a')), null, { typeCount: 2 });
    const second = fitTo(drawFinished([chat, label], 1000, random('b'), 300), first, { typeCount: 2 });
    const third = fitTo(drawFinished([chat, code], 1000, random('c'), 600), second, { typeCount: 2 });
    const idOf = (model: WorkloadModel, c: Cluster) =>
      model.types[typeOfFinished(model, { model: 'm', inputTokens: c.input, outputTokens: c.output })]!.id;
    expect(idOf(second, chat)).toBe(idOf(first, chat));
    expect(idOf(third, chat)).toBe(idOf(first, chat));
    expect(new Set([idOf(first, code), idOf(second, label), idOf(third, code)]).size).toBe(3);
  });

  test('a model whose requests stopped keeps its types', () => {
    const both = fitTo([
      ...drawFinished(clusters, 1000, random('m')),
      ...drawFinished([{ ...chat, model: 'quiet' }], 500, random('quiet')),
    ]);
    const later = fitTo(drawFinished(clusters, 1000, random('later'), 400), both);
    expect(later.types.filter((type) => type.model === 'quiet')).toEqual(
      both.types.filter((type) => type.model === 'quiet'),
    );
  });
});

describe('the posterior at arrival', () => {
  const finished = drawFinished(clusters, 8000, random('posterior'));
  const model = fitTo(finished);
  const typeOf = (c: Cluster) => typeOfFinished(model, { model: 'm', inputTokens: c.input, outputTokens: c.output });

  test('is a distribution over the types of the request’s model, for any request', () => {
    const view = fc.record({
      inputTokens: fc.integer({ min: 0, max: 3_000_000 }),
      maxTokens: fc.integer({ min: 0, max: 3_000_000 }),
      tenant: fc.constantFrom('chat', 'code', 'nobody', ''),
      generated: fc.nat(100_000),
    });
    fc.assert(
      fc.property(view, ({ generated, ...rest }) => {
        for (const p of [
          posterior(model, { model: 'm', ...rest }),
          posteriorOfRunning(model, { model: 'm', ...rest }, generated),
        ]) {
          expect(sum(p)).toBeCloseTo(1, 9);
          expect(p.every((value) => value >= 0)).toBe(true);
        }
      }),
    );
  });

  test('sees the prompt: a short one is chat or label, a long one code or summary', () => {
    const short = posterior(model, { model: 'm', inputTokens: 90, maxTokens: 4096 });
    expect(short[typeOf(chat)]! + short[typeOf(label)]!).toBeGreaterThan(0.95);
    const long = posterior(model, { model: 'm', inputTokens: 4000, maxTokens: 4096 });
    expect(long[typeOf(code)]! + long[typeOf(summary)]!).toBeGreaterThan(0.95);
  });

  test('sees the tenant where it has sent enough, and falls back to everyone where it has not', () => {
    const known = posterior(model, { model: 'm', inputTokens: 4000, maxTokens: 1024, tenant: 'code' });
    expect(known[typeOf(code)]).toBeGreaterThan(0.95);
    const stranger = posterior(model, { model: 'm', inputTokens: 4000, maxTokens: 1024, tenant: 'stranger' });
    const nobody = posterior(model, { model: 'm', inputTokens: 4000, maxTokens: 1024 });
    expect(stranger).toEqual(nobody);
    expect(stranger[typeOf(code)]).toBeGreaterThan(0.3);
    expect(stranger[typeOf(code)]).toBeLessThan(0.7);
    // One request of a newcomer barely moves what is said of it; many do.
    const newcomer = (count: number) => {
      const sent = drawFinished([{ ...code, tenant: 'newcomer' }], count, random('newcomer'));
      const p = posterior(fitTo([...finished, ...sent]), {
        model: 'm',
        inputTokens: 4000,
        maxTokens: 1024,
        tenant: 'newcomer',
      });
      return p[typeOf(code)]!;
    };
    expect(newcomer(1)).toBeLessThan(0.75);
    expect(newcomer(300)).toBeGreaterThan(0.9);
  });

  test('is calibrated: of requests given p, a share of about p turns out to be of the type', () => {
    const asked = drawFinished(clusters, 8000, random('calibration'));
    const bins = Array.from({ length: 5 }, () => ({ promised: 0, came: 0, of: 0 }));
    for (const request of asked) {
      const p = posterior(model, { model: 'm', inputTokens: request.inputTokens, maxTokens: request.maxTokens });
      const j = typeOf(code);
      const bin = bins[Math.min(4, Math.floor(p[j]! * 5))]!;
      bin.promised += p[j]!;
      bin.came += typeOfFinished(model, request) === j ? 1 : 0;
      bin.of++;
    }
    for (const { promised, came, of } of bins) if (of > 100) expect(Math.abs(promised - came) / of).toBeLessThan(0.05);
    expect(bins.filter((bin) => bin.of > 100).length).toBeGreaterThanOrEqual(2);
  });

  test('tokens made so far rule out the types that would have ended', () => {
    const view = { model: 'm', inputTokens: 80, maxTokens: 8192 };
    const before = posterior(model, view);
    expect(before[typeOf(label)]).toBeGreaterThan(0.3);
    expect(posteriorOfRunning(model, view, 0)).toEqual(before);
    expect(posteriorOfRunning(model, view, 60)[typeOf(chat)]).toBeGreaterThan(0.95);
    // Far beyond every sample, the type with the longest answers keeps the request.
    expect(posteriorOfRunning(model, view, 50_000)[typeOf(chat)]).toBeGreaterThan(0.8);
    let last = 0;
    for (const generated of [0, 1, 2, 4, 8, 16, 64]) {
      const p = posteriorOfRunning(model, view, generated)[typeOf(chat)]!;
      expect(p).toBeGreaterThanOrEqual(last - 1e-12);
      last = p;
    }
  });

  test('fills the vector that it is given and allocates no other', () => {
    const out = new Float64Array(model.types.length).fill(7);
    expect(posterior(model, { model: 'm', inputTokens: 100, maxTokens: 1024 }, out)).toBe(out);
    expect(sum(out)).toBeCloseTo(1, 9);
  });

  test('forgets: what is said follows the traffic after a few half-lives', () => {
    const early = drawFinished([{ ...code, tenant: 't' }, chat], 2000, random('early'));
    const late = drawFinished([{ ...summary, tenant: 't' }, chat], 2000, random('late'), 4000);
    const options = { typeCount: 3, halfLifeSeconds: 300 };
    const before = fitTo([...early, ...drawFinished([summary], 500, random('s'))], null, options);
    const after = refreshWorkload({ finished: late, previous: before, random: random(1), options });
    const type = typeOfFinished(after, { model: 'm', inputTokens: 4000, outputTokens: 700 });
    const view = { model: 'm', inputTokens: 4000, maxTokens: 1024, tenant: 't' };
    expect(posterior(before, view)[type]).toBeLessThan(0.2);
    expect(posterior(after, view)[type]).toBeGreaterThan(0.9);
  });

  test('a request that is given to two fits counts once', () => {
    const options = { halfLifeSeconds: Number.POSITIVE_INFINITY };
    const mass = (m: WorkloadModel) => sum(Object.values(m.posteriorCounts).map(sum));
    const first = fitTo(finished, null, options);
    const again = refreshWorkload({ finished, previous: first, random: random(1), options });
    expect(mass(first)).toBeCloseTo(finished.length, 6);
    expect(mass(again)).toBeCloseTo(finished.length, 6);
    const half = refreshWorkload({ finished: finished.slice(4000), previous: first, random: random(1), options });
    expect(mass(half)).toBeCloseTo(finished.length, 6);
    const more = drawFinished(clusters, 1000, random('more'), 1e6);
    const grown = refreshWorkload({ finished: more, previous: first, random: random(1), options });
    expect(mass(grown)).toBeCloseTo(finished.length + 1000, 6);
  });

  test('its table stays small however many tenants there are', () => {
    const many = drawFinished(clusters, 20_000, random('many')).map((request, i) => ({
      ...request,
      tenant: `t${i % 3000}`,
    }));
    const keys = Object.keys(fitTo(many).posteriorCounts);
    const tenants = new Set(keys.map((key) => (JSON.parse(key) as [string, number, string, number])[2]));
    expect(tenants.size).toBeLessThanOrEqual(65);
    expect(keys.length).toBeLessThan(3000);
  });
});

describe('drift', () => {
  const model = fitTo(drawFinished(clusters, 4000, random('drift')));

  test('is not seen in traffic of the same types, whatever the sample and the mix', () => {
    for (let seed = 0; seed < 40; seed++) {
      const mix = clusters.flatMap((cluster, k) => new Array<Cluster>(1 + ((k * 3 + seed) % 7)).fill(cluster));
      expect(hasDrifted(model, drawFinished(mix, 300 + 40 * seed, random(`same ${seed}`)))).toBe(false);
    }
  });

  test('is seen when a type moves, when a new one comes, and when another model asks', () => {
    const moved = drawFinished([{ ...chat, output: 1600 }, code, summary, label], 1000, random('moved'));
    expect(hasDrifted(model, moved)).toBe(true);
    const appeared = drawFinished([...clusters, { input: 500, output: 120 }], 1000, random('appeared'));
    expect(hasDrifted(model, appeared)).toBe(true);
    expect(hasDrifted(model, drawFinished([{ ...chat, model: 'new' }], 1, random('new')))).toBe(true);
  });

  test('is not concluded from a few requests', () => {
    expect(hasDrifted(model, drawFinished([{ input: 500, output: 120 }], 100, random('few')))).toBe(false);
    expect(hasDrifted(model, [])).toBe(false);
  });

  test('is over after a re-fit', () => {
    const moved = drawFinished([{ ...chat, output: 1600 }, code, summary, label], 3000, random('moved'), 1000);
    const refitted = fitTo(moved, model);
    expect(
      hasDrifted(refitted, drawFinished([{ ...chat, output: 1600 }, code, summary, label], 1000, random('again'))),
    ).toBe(false);
  });
});
