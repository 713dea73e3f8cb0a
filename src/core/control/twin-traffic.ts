// The traffic that the twin plays. Poisson arrivals at the mean forecast would make every deployment look better than it
// is: what hurts the tail is the minute that the forecast missed, the burst inside the minute, and the queue that is
// there already, and what came half an hour ago may come again. So the twin plays scenarios, equal for all candidates
// (common random numbers): half of them from the forecast, starting from what is here now, the other half a piece of
// the recent past played again. Each draws:
//
//   level    how far the truth is from the forecast, from the forecast's own quantiles; persists over the windows
//   past     (the other half) the rates of consecutive windows of the last half hour: the heaviest once, else any
//   bursts   a factor per type and 10 s, as uneven as arrivals were lately
//   lengths  real members of the type
//   backlog  what runs or waits now, with remaining lengths drawn from P(L | L > generated)
import type { Forecast, Observation, Random, TraceRequest, WorkloadModel } from '../domain/index.ts';
import { exponential, logNormal, normal, weightedIndex } from '../math/index.ts';
import { posteriorOfRunning } from '../workload/index.ts';

/** Length of a burst, seconds; windows are multiples of it. */
export const BURST_SECONDS = 10;
/** How much of a forecast error of one window is still there in the next. */
const LEVEL_PERSISTENCE = 0.8;
/** 0.9-quantile of the normal distribution. */
const Z90 = 1.2816;
/** Backlog requests that the twin plays at most; more are thinned. */
const MOST_BACKLOG = 1000;

export interface TrafficModel {
  readonly workload: WorkloadModel;
  readonly forecast: Forecast;
  readonly windowSeconds: number;
  /** Squared coefficient of variation of the 10-s arrival rate inside a window, by type, beyond Poisson's. */
  readonly burstCv2: readonly number[];
  readonly running: Observation['running'];
  /** Arrivals by window (oldest first) and type, as of now. */
  readonly history: readonly ArrayLike<number>[];
}

/** Windows of the past that may come again. */
const PAST_WINDOWS = 30;

/**
 * @param count - scenarios; the even ones follow the forecast, the odd ones the past (where there is one).
 * @param windows - windows that each of them plays.
 * @param maxRequests - most requests of each.
 */
export const sampleScenarios = (
  model: TrafficModel,
  count: number,
  windows: number,
  maxRequests: number,
  random: Random,
): TraceRequest[][] =>
  Array.from({ length: count }, (_, i) => {
    const dice = random.fork(`scenario ${i}`);
    return sampleTraffic(
      i % 2 === 1 ? pastAgain(model, windows, i === 1 ? null : dice.fork('past')) : model,
      windows,
      maxRequests,
      dice,
    );
  });

/** The same model with a piece of the past for a forecast, and nothing here yet; without dice, the heaviest piece. */
function pastAgain(model: TrafficModel, windows: number, random: Random | null): TrafficModel {
  const { workload, history, windowSeconds, forecast } = model;
  const past = history.slice(-PAST_WINDOWS);
  const choices = past.length - windows + 1;
  if (choices < 1) return model;
  const tokens = past.map((counts) =>
    workload.types.reduce((sum, type, j) => sum + counts[j]! * (type.inputTokens + type.outputTokens), 0),
  );
  const weightFrom = (first: number): number =>
    tokens.slice(first, first + windows).reduce((sum, value) => sum + value, 0);
  let first = 0;
  if (random) first = Math.floor(random.next() * choices);
  else for (let i = 1; i < choices; i++) if (weightFrom(i) > weightFrom(first)) first = i;
  const rates = past
    .slice(first, first + windows)
    .map((counts) => Array.from(counts, (count) => count / windowSeconds));
  return { ...model, running: [], forecast: { ...forecast, arrivalRate: rates, arrivalRateQuantile90: rates } };
}

/**
 * @param windows - how many forecast windows to play.
 * @returns requests sorted by arrival, backlog first (at 0); at most `maxRequests`, cut at the end.
 */
export function sampleTraffic(
  model: TrafficModel,
  windows: number,
  maxRequests: number,
  random: Random,
): TraceRequest[] {
  const { workload, windowSeconds } = model;
  // What comes must have room beside what is here, else the budget hides that the queue grows.
  const requests = backlog(model, Math.min(MOST_BACKLOG, maxRequests / 2), random.fork('backlog'));
  workload.types.forEach((type, j) => {
    const levels = random.fork(`level ${type.id}`);
    const bursts = random.fork(`bursts ${type.id}`);
    const arrivals = random.fork(`arrivals ${type.id}`);
    const lengths = random.fork(`lengths ${type.id}`);
    const burstSigma = Math.sqrt(Math.log1p(model.burstCv2[j] ?? 0));
    let level = normal(levels);
    for (let window = 0; window < windows; window++) {
      const mean = model.forecast.arrivalRate[window]?.[j] ?? 0;
      const levelSigma = Math.sqrt(Math.log1p(levelCv2(model, window, j)));
      const windowRate = mean * Math.exp(levelSigma * level - levelSigma ** 2 / 2);
      for (let start = 0; start < windowSeconds; start += BURST_SECONDS) {
        const end = window * windowSeconds + Math.min(windowSeconds, start + BURST_SECONDS);
        const rate = windowRate * (burstSigma > 0 ? logNormal(bursts, -(burstSigma ** 2) / 2, burstSigma) : 1);
        if (rate <= 0) continue;
        for (
          let at = window * windowSeconds + start + exponential(arrivals, 1 / rate);
          at < end;
          at += exponential(arrivals, 1 / rate)
        ) {
          const pair = type.samples[Math.floor(lengths.next() * type.samples.length)];
          const [inputTokens, outputTokens] = pair ?? [Math.round(type.inputTokens), Math.round(type.outputTokens)];
          requests.push({ arrivalSeconds: at, inputTokens, outputTokens, model: type.model });
        }
      }
      level = LEVEL_PERSISTENCE * level + Math.sqrt(1 - LEVEL_PERSISTENCE ** 2) * normal(levels);
    }
  });
  requests.sort((a, b) => a.arrivalSeconds - b.arrivalSeconds || a.inputTokens - b.inputTokens);
  return requests.length > maxRequests ? requests.slice(0, maxRequests) : requests;
}

/**
 * Squared coefficient of variation of a window's true rate around its forecast: from the 0.9-quantile less Poisson's part,
 * and from having seen little yet (n windows tell a mean to 1/n of its variance).
 */
function levelCv2({ forecast, windowSeconds, history }: TrafficModel, window: number, j: number): number {
  const mean = (forecast.arrivalRate[window]?.[j] ?? 0) * windowSeconds;
  const high = (forecast.arrivalRateQuantile90[window]?.[j] ?? 0) * windowSeconds;
  if (mean <= 0) return 0;
  const variance = ((high - mean) / Z90) ** 2 - mean;
  return Math.min(1, Math.max(0, variance / mean ** 2) + 1 / Math.max(1, history.length));
}

/** Requests that are here now, as arrivals at 0 with what is left of them. */
function backlog({ workload, running }: TrafficModel, most: number, random: Random): TraceRequest[] {
  const keep = Math.min(1, most / Math.max(1, running.length));
  const probabilities = new Float64Array(workload.types.length);
  return running.flatMap((request) => {
    if (keep < 1 && random.next() >= keep) return [];
    posteriorOfRunning(workload, request, request.generatedTokens, probabilities);
    const known = probabilities.some((probability) => probability > 0);
    const type = known ? workload.types[weightedIndex(random, probabilities)] : undefined;
    const longer = (type?.samples ?? []).filter(([, output]) => output > request.generatedTokens);
    const pair = longer[Math.floor(random.next() * longer.length)];
    // Longer than all that was seen of its type: as much again as it has.
    const remaining = pair ? pair[1] - request.generatedTokens : Math.max(1, request.generatedTokens);
    return [
      {
        arrivalSeconds: 0,
        inputTokens: request.inputTokens + request.generatedTokens,
        outputTokens: Math.min(remaining, Math.max(1, request.maxTokens - request.generatedTokens)),
        model: request.model,
      },
    ];
  });
}

/**
 * How uneven arrivals are inside windows.
 *
 * @param counts - arrivals by burst length (oldest first) and type.
 * @param perWindow - bursts in a window.
 * @returns squared coefficient of variation of the rate by type, Poisson's share taken off, at most 4.
 */
export function burstiness(counts: readonly ArrayLike<number>[], typeCount: number, perWindow: number): number[] {
  return Array.from({ length: typeCount }, (_, j) => {
    let excess = 0;
    let squares = 0;
    for (let first = counts.length % perWindow; first + perWindow <= counts.length; first += perWindow) {
      let sum = 0;
      for (let i = 0; i < perWindow; i++) sum += counts[first + i]![j]!;
      const mean = sum / perWindow;
      let variance = 0;
      for (let i = 0; i < perWindow; i++) variance += (counts[first + i]![j]! - mean) ** 2 / (perWindow - 1);
      excess += variance - mean;
      squares += mean ** 2;
    }
    return squares > 0 ? Math.min(4, Math.max(0, excess / squares)) : 0;
  });
}
