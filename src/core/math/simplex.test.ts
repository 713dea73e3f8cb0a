import fc from 'fast-check';
import highsLoader from 'highs';
import { expect, test } from 'vitest';
import { type LinearProgram, type Relation, Simplex, solveLp } from './simplex.ts';

// The package is CommonJS: what Node gives as default is the loader itself, which its types do not say.
const highs = await (highsLoader as unknown as typeof highsLoader.default)();

/** The program in the text format that the independent solver reads. */
function asText(program: Required<LinearProgram>, integers: readonly number[] = []): string {
  const n = program.objective.length;
  const sum = (coefficient: (variable: number) => number) =>
    Array.from({ length: n }, (_, v) => `${coefficient(v) < 0 ? '-' : '+'} ${Math.abs(coefficient(v))} x${v}`).join(
      ' ',
    );
  const rows = program.relations.map(
    (relation, row) =>
      ` r${row}: ${sum((v) => program.matrix[row * n + v]!)} ${relation} ${program.rightHandSide[row]}`,
  );
  const bounds = Array.from({ length: n }, (_, v) => {
    const upper = program.upper[v]!;
    return ` ${program.lower[v]} <= x${v} <= ${upper === Number.POSITIVE_INFINITY ? '+inf' : upper}`;
  });
  const general = integers.length > 0 ? `General\n ${integers.map((v) => `x${v}`).join(' ')}\n` : '';
  return `Maximize\n obj: ${sum((v) => program.objective[v]!)}\nSubject To\n${rows.join('\n')}\nBounds\n${bounds.join('\n')}\n${general}End\n`;
}

const coefficient = fc.integer({ min: -6, max: 6 });
const programs = fc
  .tuple(fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 8 }), fc.boolean())
  .chain(([m, n, bounded]) =>
    fc.record({
      objective: fc.array(coefficient, { minLength: n, maxLength: n }),
      matrix: fc.array(coefficient, { minLength: m * n, maxLength: m * n }),
      relations: fc.array(fc.constantFrom<Relation>('<=', '<=', '<=', '>=', '='), { minLength: m, maxLength: m }),
      rightHandSide: fc.array(fc.integer({ min: -4, max: 12 }), { minLength: m, maxLength: m }),
      lower: fc.array(fc.integer({ min: -3, max: 1 }), { minLength: n, maxLength: n }),
      upper: fc.array(bounded ? fc.integer({ min: 1, max: 9 }) : fc.constant(Number.POSITIVE_INFINITY), {
        minLength: n,
        maxLength: n,
      }),
    }),
  );

const STATUS: Record<string, string> = { Optimal: 'optimal', Infeasible: 'infeasible', Unbounded: 'unbounded' };

test('agrees with an independent solver on random programs: status, optimum, and a feasible vertex', () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(programs, (program) => {
      const judge = highs.solve(asText(program), { presolve: 'off' });
      const own = solveLp(program);
      expect(own.status).toBe(STATUS[judge.Status] ?? judge.Status);
      seen.add(own.status);
      if (own.status !== 'optimal') return;
      expect(own.objective).toBeCloseTo(judge.ObjectiveValue, 6);
      expectFeasible(program, own.values);
      expect(own.values.reduce((sum, value, v) => sum + value * program.objective[v]!, 0)).toBeCloseTo(
        own.objective,
        6,
      );
    }),
    { numRuns: 250 },
  );
  expect([...seen].sort()).toEqual(['infeasible', 'optimal', 'unbounded']);
});

test('duals prove the optimum of a program with rows only of one kind', () => {
  fc.assert(
    fc.property(programs, (random) => {
      const program = {
        ...random,
        relations: random.relations.map(() => '<=' as const),
        lower: random.lower.map(() => 0),
      };
      const own = solveLp({ ...program, upper: program.upper.map(() => Number.POSITIVE_INFINITY) });
      if (own.status !== 'optimal') return;
      // Weak duality with equality: b·y = c·x, y ≥ 0, A'y ≥ c.
      const n = program.objective.length;
      const paid = program.rightHandSide.reduce((sum, b, row) => sum + b * own.duals[row]!, 0);
      expect(paid).toBeCloseTo(own.objective, 6);
      for (const dual of own.duals) expect(dual).toBeGreaterThan(-1e-7);
      program.objective.forEach((gain, v) => {
        const price = own.duals.reduce((sum, dual, row) => sum + dual * program.matrix[row * n + v]!, 0);
        expect(price).toBeGreaterThan(gain - 1e-6);
      });
    }),
  );
});

test('tightened bounds are repaired to the optimum that a cold start finds, and a saved state comes back whole', () => {
  const tighter = fc.array(fc.tuple(fc.nat(7), fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 4 })), {
    maxLength: 6,
  });
  fc.assert(
    fc.property(programs, tighter, (random, changes) => {
      const program = { ...random, upper: random.upper.map((u) => Math.min(u, 9)) };
      const warm = new Simplex(program);
      if (warm.solve() !== 'optimal') return;
      const start = warm.objective;
      const saved = warm.save();
      const lower = [...program.lower];
      const upper = [...program.upper];
      for (const [at, up, down] of changes) {
        const v = at % lower.length;
        lower[v] = Math.min(upper[v]!, lower[v]! + up);
        upper[v] = Math.max(lower[v]!, upper[v]! - down);
        warm.setBounds(v, lower[v]!, upper[v]!);
        const status = warm.resolve();
        const cold = solveLp({ ...program, lower, upper });
        expect(status).toBe(cold.status);
        if (status !== 'optimal') break;
        expect(warm.objective).toBeCloseTo(cold.objective, 6);
      }
      warm.restore(saved);
      expect(warm.resolve()).toBe('optimal');
      expect(warm.objective).toBe(start);
    }),
  );
});

test('gives up early once the optimum is proven to be no better than the cutoff', () => {
  const solver = new Simplex({
    objective: [1, 1],
    matrix: [1, 2],
    relations: ['<='],
    rightHandSide: [4],
    upper: [3, 3],
  });
  expect(solver.solve()).toBe('optimal');
  expect(solver.objective).toBeCloseTo(3.5);
  solver.setBounds(0, 0, 1);
  expect(solver.resolve(3)).toBe('cutoff');
  expect(solver.resolve()).toBe('optimal');
  expect(solver.objective).toBeCloseTo(2.5);
});

test('does not cycle on programs that make the plain simplex cycle', () => {
  // Beale's example: every step before the last is degenerate.
  const beale = solveLp({
    objective: [0.75, -150, 0.02, -6],
    matrix: [0.25, -60, -0.04, 9, 0.5, -90, -0.02, 3, 0, 0, 1, 0],
    relations: ['<=', '<=', '<='],
    rightHandSide: [0, 0, 1],
  });
  expect(beale.status).toBe('optimal');
  expect(beale.objective).toBeCloseTo(0.05, 9);
});

function expectFeasible(program: Required<LinearProgram>, values: Float64Array): void {
  const n = program.objective.length;
  program.relations.forEach((relation, row) => {
    const left = values.reduce((sum, value, v) => sum + value * program.matrix[row * n + v]!, 0);
    const right = program.rightHandSide[row]!;
    if (relation !== '>=') expect(left).toBeLessThan(right + 1e-6);
    if (relation !== '<=') expect(left).toBeGreaterThan(right - 1e-6);
  });
  values.forEach((value, v) => {
    expect(value).toBeGreaterThan(program.lower[v]! - 1e-7);
    expect(value).toBeLessThan(program.upper[v]! + 1e-7);
  });
}
