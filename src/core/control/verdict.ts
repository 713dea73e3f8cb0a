// Stay or switch? The twin plays scenarios of the coming minutes on every candidate, the same for all.
//
//   screening   all candidates on the first two scenarios: the best way of staying, and the most promising moves
//   duel        the best stay against the two best moves on all scenarios
//   relief      when the forecast is about the present capacity or more: who carries more, on one long scenario
//   payback     the same with the switch inside the first scenario, which starts from what runs now: its own loss
//
// A move wins only when the lower 90 % bound of (stay − move), by the jackknife over scenarios, exceeds the switch's own
// loss and a margin, which is larger where nothing has changed for long (calm-watch.ts).
import {
  type Cluster,
  type ConsideredCandidate,
  type Decision,
  formatDeployment,
  InfeasibleError,
  mostParkedBytes,
  mostParkedLayouts,
  nodeIndexByGpu,
  type Observation,
  type PlacedDeployment,
  type Random,
  type ReplicaId,
  replicaId,
  SwitchError,
  type SwitchPlan,
} from '../domain/index.ts';
import type { SimulationResult } from '../sim/index.ts';
import { placeDeployment, planSwitch } from '../switching/index.ts';
import type { ControllerConfig } from './config.ts';
import { type Candidate, loadOf, type Proposal } from './planner.ts';
import { jackknifeLowerBound } from './statistics.ts';
import { Twin } from './twin.ts';
import { sampleScenarios, type TrafficModel } from './twin-traffic.ts';

/** Windows that a scenario plays, if the horizon has as many; together they are about the horizon. */
const SCENARIO_WINDOWS = 3;
const SCENARIOS = 6;
const SCREEN_SCENARIOS = 2;
const DUEL_MOVES = 2;
/** Above this load on the present deployment, queues grow longer than short scenarios show. */
const HEAVY_LOAD = 0.9;
/** Another routing variant of the present deployment must be this much better: it is free, but need not flutter. */
const VARIANT_GAIN_SHARE = 0.03;

export interface Verdict {
  readonly chosen: Candidate | null;
  /** The switch that leads there; null = the deployment stays. */
  readonly plan: SwitchPlan | null;
  readonly considered: readonly ConsideredCandidate[];
  readonly simulatedRequests: number;
  /** One clause, without the deployment's name. */
  readonly why: string;
}

export interface JudgeRequest {
  readonly config: ControllerConfig;
  readonly traffic: TrafficModel;
  readonly cluster: Cluster;
  readonly lostGpus: readonly number[];
  readonly current: PlacedDeployment;
  readonly proposal: Proposal;
  readonly switchId: string;
  /** Why no switch may be started now, or null. */
  readonly maySwitch: string | null;
  /** How many times the configured margin a switch must gain; 1 unless the traffic has been the same for long. */
  readonly marginFactor: number;
  readonly budgetRequests: number;
  readonly random: Random;
}

interface Scored {
  readonly candidate: Candidate;
  /** One run per scenario played so far. */
  readonly runs: readonly SimulationResult[];
  readonly score: number;
}

export function judge(request: JudgeRequest): Verdict {
  const { config, traffic, proposal, budgetRequests, random } = request;
  const twin = new Twin(config, traffic.workload);
  const candidates = [...proposal.stay, ...proposal.moves];
  if (candidates.length === 0) {
    return NOTHING_FITS;
  }
  const runCount =
    SCREEN_SCENARIOS * candidates.length + (SCENARIOS - SCREEN_SCENARIOS) * (1 + DUEL_MOVES) + DUEL_MOVES;
  const windows = Math.min(SCENARIO_WINDOWS, config.horizonWindows);
  const scenarios = sampleScenarios(traffic, SCENARIOS, windows, Math.floor(budgetRequests / runCount), random);
  const play = (candidate: Candidate, upTo: number, known: readonly SimulationResult[] = []): Scored => {
    const runs = [...known, ...scenarios.slice(known.length, upTo).map((scenario) => twin.play(candidate, scenario))];
    return { candidate, runs, score: twin.score(runs, candidate.deployment) };
  };
  const stays = proposal.stay.map((candidate) => play(candidate, SCREEN_SCENARIOS));
  const moves = bestByDeployment(proposal.moves.map((candidate) => play(candidate, SCREEN_SCENARIOS)));
  const screened = bestStay(stays);
  const considered = [...stays, ...moves].map(toConsidered);
  const end = (
    chosen: Candidate | null,
    plan: SwitchPlan | null,
    why: string,
    more: readonly ConsideredCandidate[] = [],
  ): Verdict => ({
    chosen,
    plan,
    considered: merge(considered, more),
    simulatedRequests: twin.simulatedRequests,
    why,
  });

  if (!screened) {
    const best = moves[0]!;
    const left = request.current.length === 0 ? 'nothing serves' : 'a model has no replica';
    if (request.maySwitch !== null) return end(null, null, `${left}, but ${request.maySwitch}`);
    const plan = planTo(request, best.candidate);
    return typeof plan === 'string' ? end(null, null, plan) : end(best.candidate, plan, left);
  }
  if (loadOf(screened.candidate) > HEAVY_LOAD) {
    const relief = reliefOf(request, twin, screened.candidate, moves);
    if (relief && request.maySwitch === null)
      return end(relief.candidate, relief.plan, 'it carries more of the forecast');
    if (relief) {
      const name = formatDeployment(relief.candidate.deployment);
      return end(screened.candidate, null, `${name} carries more of the forecast, but ${request.maySwitch}`);
    }
  }
  // A peak that was not seen yet may come: capacity is not given up before half a horizon of traffic was seen.
  const enoughWindows = Math.ceil(config.horizonWindows / 2);
  const seenEnough = traffic.history.length >= enoughWindows;
  const better = moves.filter((move) => move.score < screened.score);
  const promising = better.filter((move) => seenEnough || loadOf(move.candidate) <= loadOf(screened.candidate));
  if (promising.length === 0) {
    const why =
      better.length === 0
        ? 'no other deployment is better'
        : `what looks better has less capacity, and only ${traffic.history.length} of ${enoughWindows} windows were seen`;
    return end(screened.candidate, null, why);
  }
  if (request.maySwitch !== null)
    return end(
      screened.candidate,
      null,
      `${formatDeployment(promising[0]!.candidate.deployment)} looks better, but ${request.maySwitch}`,
    );

  const stay = play(screened.candidate, SCENARIOS, screened.runs);
  const margin = request.marginFactor * config.minGainShare * Math.abs(stay.score);
  let best: { readonly candidate: Candidate; readonly plan: SwitchPlan; readonly surplus: number } | null = null;
  const duelled: ConsideredCandidate[] = [];
  let refused = '';
  for (const { candidate, runs } of promising.slice(0, DUEL_MOVES)) {
    const plan = planTo(request, candidate);
    if (typeof plan === 'string') {
      refused = plan;
      continue;
    }
    const move = play(candidate, SCENARIOS, runs);
    const gain = lowerBoundOfGain(twin, stay, move);
    let loss = 0;
    if (gain > margin) {
      const switching = twin.play(candidate, scenarios[0]!, { plan, cluster: request.cluster });
      const withSwitch = twin.score([switching, ...move.runs.slice(1)], candidate.deployment);
      loss = Math.max(0, withSwitch - move.score);
      const surplus = gain - loss - margin;
      if (surplus > 0 && (best === null || surplus > best.surplus)) best = { candidate, plan, surplus };
    }
    duelled.push({
      ...toConsidered(move),
      switchSeconds: plan.seconds,
      switchBytes: plan.bytes,
      switchLoss: loss,
      gainLowerBound: gain,
    });
  }
  if (best) return end(best.candidate, best.plan, 'the gain is certain enough and pays for the switch', duelled);
  return end(stay.candidate, null, refused || 'no gain is certain enough to pay for a switch', duelled);
}

/**
 * A deployment for a load that the present one can hardly carry. Queues grow slowly, and the scenarios of a busy pool are short,
 * so the capacity of the linear model names the contenders; then one long scenario from what is here now must show that
 * the queue is shorter there.
 */
function reliefOf(
  request: JudgeRequest,
  twin: Twin,
  present: Candidate,
  moves: readonly Scored[],
): { readonly candidate: Candidate; readonly plan: SwitchPlan } | null {
  const { config, traffic, budgetRequests, random } = request;
  const margin = request.marginFactor * config.minGainShare;
  const contenders = moves
    .map(({ candidate }) => candidate)
    .filter((candidate) => loadOf(candidate) * (1 + margin) <= loadOf(present))
    .sort((a, b) => loadOf(a) - loadOf(b))
    .slice(0, DUEL_MOVES);
  if (contenders.length === 0) return null;
  const most = Math.floor(budgetRequests / (2 * (1 + DUEL_MOVES)));
  const [scenario] = sampleScenarios(traffic, 1, config.horizonWindows, most, random.fork('overload'));
  const scoreOf = (candidate: Candidate) => twin.score([twin.play(candidate, scenario!)], candidate.deployment);
  const stay = scoreOf(present);
  const better = contenders
    .map((candidate) => ({ candidate, score: scoreOf(candidate) }))
    .filter(({ score }) => score < stay - margin * Math.abs(stay))
    .sort((a, b) => a.score - b.score);
  for (const { candidate } of better) {
    const plan = planTo(request, candidate);
    if (typeof plan !== 'string') return { candidate, plan };
  }
  return null;
}

const NOTHING_FITS: Verdict = {
  chosen: null,
  plan: null,
  considered: [],
  simulatedRequests: 0,
  why: 'no deployment fits the GPUs that are left',
};

/** Of the pooled scores over all scenarios. */
function lowerBoundOfGain(twin: Twin, stay: Scored, move: Scored): number {
  const difference = (skip: number): number => {
    const rest = (runs: readonly SimulationResult[]) => runs.filter((_, i) => i !== skip);
    return (
      twin.score(rest(stay.runs), stay.candidate.deployment) - twin.score(rest(move.runs), move.candidate.deployment)
    );
  };
  return jackknifeLowerBound(
    stay.score - move.score,
    stay.runs.map((_, i) => difference(i)),
  );
}

/** The present variant (the first) unless another is clearly better. */
function bestStay(stays: readonly Scored[]): Scored | undefined {
  const [present, ...others] = stays;
  if (!present) return undefined;
  const best = others.reduce((a, b) => (b.score < a.score ? b : a), present);
  return best.score < present.score - VARIANT_GAIN_SHARE * Math.abs(present.score) ? best : present;
}

/** The best variant of each deployment, best deployment first. */
function bestByDeployment(moves: readonly Scored[]): Scored[] {
  const best = new Map<string, Scored>();
  for (const move of moves) {
    const key = formatDeployment(move.candidate.deployment);
    const known = best.get(key);
    if (!known || move.score < known.score) best.set(key, move);
  }
  return [...best.values()].sort((a, b) => a.score - b.score);
}

/** The plan of the switch, or why there is none. */
function planTo(
  { config, cluster, lostGpus, current, switchId }: JudgeRequest,
  candidate: Candidate,
): SwitchPlan | string {
  try {
    const { models, engine, costs, parkedLayouts, onlyParkedLayouts } = config;
    const layouts = parkedLayouts.map((layout) => ({ ...layout, gpuKind: kindOfGpu(cluster, layout.gpus[0]!) }));
    const to = placeDeployment(cluster, current, candidate.deployment, models, {
      nextId: nextId(switchId),
      lostGpus,
      parkedLayouts: layouts,
    });
    const plan = planSwitch({
      id: switchId,
      cluster,
      models,
      from: current,
      to,
      engine,
      costs,
      parkedLayouts: layouts,
      planner: 'greedy',
      lostGpus,
      parkedReserveBytes: mostParkedBytes(parkedLayouts, costs.parkedBytesPerLayout),
      ...(parkedLayouts.length > 0 ? { mostParkedLayouts: mostParkedLayouts(parkedLayouts) } : {}),
      ...(onlyParkedLayouts ? { rungs: ['keep', 'wake', 'parked-fill'] as const } : {}),
    });
    if (!config.freeSwitches) return plan;
    return { ...plan, seconds: 0, steps: plan.steps.map((step) => ({ ...step, seconds: 0 })) };
  } catch (error) {
    // The counts fit, but no placement or no order of steps does: say so in the record, and stay.
    if (error instanceof InfeasibleError || error instanceof SwitchError) return error.message;
    throw error;
  }
}

function toConsidered({ candidate, score }: Pick<Scored, 'candidate' | 'score'>): ConsideredCandidate {
  return {
    deployment: formatDeployment(candidate.deployment),
    variant: variantText(candidate),
    servedShare: candidate.servedShare,
    utilisation: candidate.utilisation,
    score,
    switchSeconds: 0,
    switchBytes: 0,
    switchLoss: 0,
    gainLowerBound: 0,
  };
}

export function variantText({ assignment: { variant } }: Candidate): string {
  if (variant.kind === 'plain') return 'plain';
  const steps = variant.longerThanTokens.map(
    (tokens, i) => `>${tokens}: ${(variant.replicaShares[i]! * 100).toFixed(0)} %`,
  );
  return `nested ${steps.join(', ')}`;
}

const merge = (
  screened: readonly ConsideredCandidate[],
  duelled: readonly ConsideredCandidate[],
): ConsideredCandidate[] =>
  screened.map(
    (one) => duelled.find((other) => other.deployment === one.deployment && other.variant === one.variant) ?? one,
  );

/** Ids that no replica had before: the switch's own id and a number. */
function nextId(switchId: string): () => ReplicaId {
  let count = 0;
  return () => replicaId(`${switchId}-r${count++}`);
}

function kindOfGpu(cluster: Cluster, gpu: number): string {
  const node = nodeIndexByGpu(cluster)[gpu];
  return cluster.nodes[node ?? 0]!.gpuKind;
}

/** One sentence for people. */
export function describeVerdict(
  config: ControllerConfig,
  verdict: Verdict,
  decision: Decision,
  observation: Observation,
): string {
  const only = config.models.length === 1 ? config.models[0]!.name : undefined;
  const kind = observation.cluster.nodes[0]?.gpuKind;
  const text = verdict.chosen
    ? formatDeployment(verdict.chosen.deployment, {
        ...(only ? { model: only } : {}),
        ...(kind ? { gpuKind: kind } : {}),
      })
    : 'nothing';
  if (decision.kind === 'switch') {
    const { seconds, bytes } = decision.plan;
    return `switch to ${text} (${(bytes / 1e9).toFixed(0)} GB, ${seconds.toFixed(1)} s): ${verdict.why}`;
  }
  return `stay with ${text}: ${verdict.why}`;
}
