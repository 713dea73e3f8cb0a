// The controller of oserve: one tick from what was observed to what is decided, with the reasons.
//
//   slow tick   count → fit types → forecast → candidate deployments ("stay" first) → the twin plays them → decide
//   fast tick   only the assignment, and only when the set of serving replicas changed; GPUs that were lost or came back
//               are planned for at once, as in a slow tick
//
// It is pure: equal observations give equal records. Everything it decides rests on `Observation`, which has no output
// length of a request that has not ended.
import {
  type Assignment,
  type ConsideredCandidate,
  type Controller,
  canonicalDeployment,
  classKey,
  countsOf,
  type Decision,
  type Deployment,
  type FinishedRequest,
  type Forecast,
  formatDeployment,
  type Observation,
  type PlacedDeployment,
  type Random,
  type ReplicaObservation,
  type RoutingTable,
  type TickRecord,
  type WorkloadModel,
  type WorkUnits,
} from '../domain/index.ts';
import { random as makeRandom } from '../math/index.ts';
import { ArrivalCounter, fitWorkload, hasDrifted, refreshWorkload } from '../workload/index.ts';
import { CalmWatch } from './calm-watch.ts';
import type { ControllerConfig } from './config.ts';
import { forecastWindows } from './forecast-rates.ts';
import { type Candidate, loadOf, Planner } from './planner.ts';
import { isPrior, priorWorkload } from './prior.ts';
import { BURST_SECONDS, burstiness, type TrafficModel } from './twin-traffic.ts';
import { describeVerdict, judge, type Verdict } from './verdict.ts';

/** Requests that types are fitted on, newest last. */
const FIT_REQUESTS = 5000;
const FEWEST_TO_FIT = 32;
/** Drift is judged on the latest ones. */
const DRIFT_REQUESTS = 1000;
/** Windows that the predictors learn from. */
const HISTORY_WINDOWS = 180;
/** Windows that burstiness is measured over. */
const BURST_WINDOWS = 30;
/** Shares that move less than this are not worth a new table. */
const SHARE_TOLERANCE = 0.02;

export function makeController(config: ControllerConfig): Controller {
  return new OserveController(config);
}

class OserveController implements Controller {
  readonly #config: ControllerConfig;
  readonly #random: Random;
  readonly #counter: ArrivalCounter;
  readonly #planner: Planner;
  readonly #calm = new CalmWatch();
  #workload: WorkloadModel;
  #finished: FinishedRequest[] = [];
  #seenFinished = 0;
  /** How many finished requests had been seen when the types were last fitted. */
  #fittedOn = 0;
  #assignment: Assignment | null = null;
  #forecast: Forecast | null = null;
  #routingVersion = 0;
  #servingKey = '';
  /** GPUs that were lost at the last tick. */
  #lostGpus = '';
  #tick = 0;
  #switchCount = 0;
  #switchTimes: number[] = [];

  constructor(config: ControllerConfig) {
    this.#config = config;
    this.#random = makeRandom(config.seed);
    this.#counter = new ArrivalCounter({
      retentionSeconds: Math.max(7200, HISTORY_WINDOWS * config.windowSeconds),
      startSeconds: config.resume?.atSeconds ?? 0,
    });
    this.#planner = new Planner(config);
    this.#workload = config.resume?.routing.workload ?? priorWorkload(config.models);
    if (config.resume) {
      this.#assignment = config.resume.routing.assignment;
      this.#routingVersion = config.resume.routing.version;
      this.#fittedOn = FEWEST_TO_FIT; // types were fitted before: they are kept while they fit
    }
  }

  tick(observation: Observation, budget: WorkUnits): TickRecord {
    this.#tick += 1;
    this.#counter.observe(observation);
    this.#finished.push(...observation.finished);
    this.#seenFinished += observation.finished.length;
    if (this.#finished.length > FIT_REQUESTS) this.#finished = this.#finished.slice(-FIT_REQUESTS);
    const lost = observation.lostGpus.join();
    const think = observation.kind === 'slow' || lost !== this.#lostGpus;
    if (lost !== this.#lostGpus) this.#calm.changed();
    this.#lostGpus = lost;
    return think ? this.#slowTick(observation, budget) : this.#fastTick(observation);
  }

  #slowTick(observation: Observation, budget: WorkUnits): TickRecord {
    const { atSeconds } = observation;
    const refitted = this.#refit();
    const counts = this.#counts(atSeconds);
    this.#forecast = forecastWindows(this.#config, this.#workload, counts, atSeconds);
    const current = inDeployment(observation);
    const random = this.#random.fork(`tick ${this.#tick}`);
    const next = this.#forecast.arrivalRate[0] ?? [];
    const plan = this.#planner.propose({
      workload: this.#workload,
      forecast: this.#forecast,
      cluster: observation.cluster,
      lostGpus: observation.lostGpus,
      current,
      previous: this.#assignment,
      budgetNodes: budget.searchNodes,
    });
    const mayAct = this.#config.mode !== 'observe' && (plan.stay.length === 0 || next.some((rate) => rate > 0));
    const verdict: Verdict = mayAct
      ? judge({
          config: this.#config,
          traffic: this.#trafficModel(observation, this.#forecast, counts),
          cluster: observation.cluster,
          lostGpus: observation.lostGpus,
          current,
          proposal: plan,
          switchId: `s${this.#switchCount + 1}`,
          maySwitch: this.#maySwitch(observation),
          marginFactor: this.#calm.look(plan.stay[0] ? loadOf(plan.stay[0]) : 0),
          budgetRequests: budget.simulatedRequests,
          random,
        })
      : {
          chosen: plan.stay[0] ?? null,
          plan: null,
          considered: [],
          simulatedRequests: 0,
          why: 'no traffic to plan for',
        };
    const decision = this.#decide(observation, verdict, refitted);
    return this.#record(observation, {
      counts: counts.at(-1),
      considered: verdict.considered,
      search: plan.search,
      simulatedRequests: verdict.simulatedRequests,
      chosen: verdict.chosen ? this.#text(verdict.chosen.deployment) : this.#text(countsOf(current)),
      decision,
      why: describeVerdict(this.#config, verdict, decision, observation),
    });
  }

  #fastTick(observation: Observation): TickRecord {
    const decision = this.#config.mode === 'observe' ? NOTHING : this.#followReplicas(observation);
    const why = decision.kind === 'none' ? 'nothing changed' : 'other replicas serve now: shares follow';
    return this.#record(observation, {
      counts: undefined,
      considered: [],
      search: null,
      simulatedRequests: 0,
      chosen: this.#text(countsOf(inDeployment(observation))),
      decision,
      why,
    });
  }

  /** When a replica came or went, the same forecast is split over what serves now. */
  #followReplicas(observation: Observation): Decision {
    const key = servingKey(observation);
    if (key === this.#servingKey) return NOTHING;
    this.#servingKey = key;
    const serving = countsOf(servingNow(observation));
    return this.#route(this.#planner.assignmentFor(this.#workload, this.#rates(), serving, this.#assignment));
  }

  #trafficModel(
    { running, atSeconds }: Observation,
    forecast: Forecast,
    history: readonly ArrayLike<number>[],
  ): TrafficModel {
    const { windowSeconds } = this.#config;
    const perWindow = Math.floor(windowSeconds / BURST_SECONDS);
    const bursts =
      perWindow < 2
        ? []
        : this.#counter.countsByWindow(BURST_SECONDS, atSeconds, this.#workload, BURST_WINDOWS * perWindow);
    const burstCv2 = burstiness(bursts, this.#workload.types.length, Math.max(1, perWindow));
    return { workload: this.#workload, forecast, windowSeconds, burstCv2, running, history };
  }

  #rates(): readonly number[] {
    return this.#forecast?.arrivalRate[0] ?? this.#workload.types.map(() => 0);
  }

  /** Arrivals by window and type: what was counted here, after what the controller before this one had counted. */
  #counts(atSeconds: number): ArrayLike<number>[] {
    const counted = this.#counter.countsByWindow(
      this.#config.windowSeconds,
      atSeconds,
      this.#workload,
      HISTORY_WINDOWS,
    );
    const before = this.#config.resume?.history ?? [];
    const { types } = this.#workload;
    // Counts of other types than today's say nothing about these.
    const usable = before.filter((window) => types.some(({ id }) => window[id] !== undefined));
    return [...usable.map((window) => types.map(({ id }) => window[id] ?? 0)), ...counted].slice(-HISTORY_WINDOWS);
  }

  /** New types while there is much to learn, later only when the traffic no longer looks like them; else fresher ones. */
  #refit(): boolean {
    const finished = this.#finished;
    const seen = this.#seenFinished;
    if (finished.length < FEWEST_TO_FIT) return false;
    const random = this.#random.fork(`types ${this.#tick}`);
    const options = { typeCount: this.#config.typeCount };
    const learning = seen >= 2 * this.#fittedOn;
    const drifted = !learning && hasDrifted(this.#workload, finished.slice(-DRIFT_REQUESTS));
    if (drifted) this.#calm.changed();
    if (learning || drifted) {
      this.#workload = fitWorkload({ finished, previous: this.#standingTypes(), random, options });
      this.#fittedOn = seen;
    } else {
      this.#workload = refreshWorkload({ finished, previous: this.#workload, random, options });
    }
    return learning || drifted;
  }

  /** What a fit starts from. A prior type is a guess: it stands only until its model has requests to fit types on. */
  #standingTypes(): WorkloadModel {
    const { types, ...rest } = this.#workload;
    const seen = new Map<string, number>();
    for (const { model } of this.#finished) seen.set(model, (seen.get(model) ?? 0) + 1);
    return { ...rest, types: types.filter((type) => !isPrior(type) || (seen.get(type.model) ?? 0) < FEWEST_TO_FIT) };
  }

  #maySwitch({ atSeconds, switchInProgress }: Observation): string | null {
    this.#switchTimes = this.#switchTimes.filter((time) => time > atSeconds - 3600);
    if (this.#config.mode !== 'auto') return `mode is ${this.#config.mode}`;
    if (switchInProgress !== null) return `switch ${switchInProgress} is under way`;
    if (this.#switchTimes.length >= this.#config.maxSwitchesPerHour) {
      return `${this.#switchTimes.length} switches in the last hour, the limit`;
    }
    return null;
  }

  #decide(observation: Observation, { chosen, plan }: Verdict, refitted: boolean): Decision {
    if (this.#config.mode === 'observe') return NOTHING;
    if (plan && chosen) {
      this.#switchCount += 1;
      this.#switchTimes.push(observation.atSeconds);
      // While the switch goes on, old and new replicas serve side by side; fast ticks follow what is there.
      const both = largerOfBoth(countsOf(inDeployment(observation)), chosen.deployment);
      const { assignment } = chosen;
      const shares = this.#planner.assignmentFor(this.#workload, this.#rates(), both, assignment);
      return { kind: 'switch', plan, routing: this.#route(shares).routing };
    }
    if (observation.switchInProgress !== null || !chosen) return this.#followReplicas(observation);
    this.#servingKey = servingKey(observation);
    if (!refitted && this.#assignment && sameAssignment(this.#assignment, chosen.assignment)) return NOTHING;
    return this.#route(chosen.assignment);
  }

  #route(assignment: Assignment): { kind: 'route'; routing: RoutingTable } {
    this.#assignment = assignment;
    this.#routingVersion += 1;
    return { kind: 'route', routing: { version: this.#routingVersion, workload: this.#workload, assignment } };
  }

  #text = (deployment: Candidate['deployment']): string => {
    const only = this.#config.models.length === 1 ? this.#config.models[0]!.name : undefined;
    const kinds = new Set(deployment.map((group) => group.gpuKind));
    return formatDeployment(deployment, {
      ...(only ? { model: only } : {}),
      ...(kinds.size === 1 ? { gpuKind: [...kinds][0]! } : {}),
    });
  };

  #record(
    observation: Observation,
    parts: {
      readonly counts: ArrayLike<number> | undefined;
      readonly considered: readonly ConsideredCandidate[];
      readonly search: TickRecord['search'];
      readonly simulatedRequests: number;
      readonly chosen: string;
      readonly decision: Decision;
      readonly why: string;
    },
  ): TickRecord {
    const { windowSeconds, profileVersion } = this.#config;
    return {
      tick: this.#tick,
      kind: observation.kind,
      atSeconds: observation.atSeconds,
      seen: {
        arrivals: observation.arrivals.length,
        finished: observation.finished.length,
        queued: observation.queuedCount,
        running: observation.running.length,
        arrivalRate: parts.counts ? Array.from(parts.counts, (count) => count / windowSeconds) : [],
        deployment: this.#text(countsOf(inDeployment(observation))),
        lostGpus: observation.lostGpus.length,
        switchInProgress: observation.switchInProgress,
      },
      types: this.#workload.types.map(({ id, model, inputTokens, outputTokens }) => ({
        id,
        model,
        inputTokens,
        outputTokens,
      })),
      predicted: parts.search ? this.#forecast : null,
      considered: parts.considered,
      search: parts.search,
      chosen: parts.chosen,
      decision: parts.decision,
      why: parts.why,
      versions: { workload: this.#workload.version, routing: this.#routingVersion, profile: profileVersion },
      work: { searchNodes: parts.search?.nodes ?? 0, simulatedRequests: parts.simulatedRequests },
    };
  }
}

/** Each class as often as the deployment that has more of it. */
function largerOfBoth(a: Deployment, b: Deployment): Deployment {
  const count = (deployment: Deployment, key: string) =>
    deployment.find((group) => classKey(group) === key)?.count ?? 0;
  const inBoth = a.map((group) => ({ ...group, count: Math.max(group.count, count(b, classKey(group))) }));
  return canonicalDeployment([...inBoth, ...b.filter((group) => count(a, classKey(group)) === 0)]);
}

const NOTHING: Decision = { kind: 'none' };

const asPlaced = (replicas: readonly ReplicaObservation[]): PlacedDeployment =>
  replicas.map(({ id, model, gpuKind, strategy, gpus }) => ({ id, model, gpuKind, strategy, gpus }));

/**
 * What counts as the present deployment: everything that is not parked and has all its GPUs. A failed engine is being
 * brought back by the host, so its place is still taken.
 */
export function inDeployment({ replicas, lostGpus }: Pick<Observation, 'replicas' | 'lostGpus'>): PlacedDeployment {
  return asPlaced(
    replicas.filter((replica) => replica.state !== 'parked' && !replica.gpus.some((gpu) => lostGpus.includes(gpu))),
  );
}

/** What takes requests; an agent that lost its GPUs may still report its engines as serving. */
const servingNow = (observation: Observation): PlacedDeployment =>
  inDeployment({
    ...observation,
    replicas: observation.replicas.filter((replica) => replica.state === 'serving'),
  });

const servingKey = (observation: Observation): string => formatDeployment(countsOf(servingNow(observation)));

export function sameAssignment(a: Assignment, b: Assignment): boolean {
  if (JSON.stringify(a.variant) !== JSON.stringify(b.variant)) return false;
  if (a.typeIds.join() !== b.typeIds.join() || a.classKeys.join() !== b.classKeys.join()) return false;
  return a.share.every((row, j) => row.every((share, k) => Math.abs(share - b.share[j]![k]!) <= SHARE_TOLERANCE));
}
