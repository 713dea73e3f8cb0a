// Process of the controller: the control loop over a live pool. The controller itself thinks in a worker thread; here
// are the fleet's clients, the reconciler, the switch executor and the timers. It may be killed at any moment: whatever
// was under way is in the journal, and the next process takes it up. Without it the gateway routes on by its last table.
import { controlStep, priorWorkload, type ResumedState } from '../../core/control/index.ts';
import {
  gpuKind,
  type Journal,
  type RoutingTable,
  type TickRecord,
  type WorkUnits,
  weightBytes,
  weightBytesByStage,
} from '../../core/domain/index.ts';
import { placeDeployment } from '../../core/switching/index.ts';
import {
  ControlLoop,
  createLogger,
  endWithParent,
  FleetClient,
  FleetWatch,
  GatewayAdminClient,
  initialDeployment,
  type Layout,
  LiveFleet,
  onParentMessage,
  PoolClock,
  processOptions,
  Reconciler,
  ReplicaActions,
  RoutingPublisher,
  SqliteJournal,
  SwitchExecutor,
  switchLine,
  tellParent,
  tickLine,
  WorkerController,
} from '../../host/index.ts';
import type { ControllerProcessOptions } from './controller-options.ts';

/** A slow tick that bugs out this often in a row is left to a fresh process. */
const MOST_FAILURES_IN_A_ROW = 10;
/** Between two looks at the fleet besides the ticks, real milliseconds: a tick may think for seconds. */
const ATTEND_MS = 500;
/** How far back the last routing table is looked for. */
const RECENT_TICKS = 2000;
/** Windows of arrivals that a controller takes over. */
const HISTORY_WINDOWS = 180;

const options = processOptions() as ControllerProcessOptions;
const { input } = options;
const { config, cluster, models } = input;
const clock = new PoolClock(options.clock);
const log = createLogger({ name: 'controller' });
const speed = Math.max(1, clock.speed);

const journal = new SqliteJournal({
  directory: options.stateDirectory,
  run: options.poolId,
  onProblem: (problem) =>
    problem ? log.error({ error: problem }, 'the journal cannot be written') : log.info('the journal is written again'),
});
const agents = options.agents.map(
  ({ name, url }) => new FleetClient({ name, baseUrl: url, token: options.token, operationTimeoutMs: 300_000 }),
);
const gateway = new GatewayAdminClient({ baseUrl: options.gatewayAdminUrl, token: options.token });
const watch = new FleetWatch({
  agents,
  cluster,
  onTrouble: (name, error) => log.warn({ error }, `${name} does not answer`),
});
const publisher = new RoutingPublisher({
  gateway,
  models: models.map(({ spec }) => spec),
  priors: priorWorkload(models.map(({ spec }) => spec)).types,
  onTrouble: (error) => log.warn({ error }, 'the gateway did not take the routing; it keeps its last one'),
});
const actions = new ReplicaActions({
  watch,
  gateway,
  publisher,
  clock,
  drainLimits: {
    drainSeconds: config.switching.drainSeconds,
    drainDeadlineSeconds: config.switching.drainDeadlineSeconds,
  },
  // Processes come back in real time, however fast the emulated clock runs.
  pollSeconds: Math.max(0.25, 0.03 * speed),
  retryPauseSeconds: 0.5 * speed,
});
const layouts = input.parkedPlaces.map((place) => ({ ...place, gpuKind: kindOf(place.gpus) }));
const reconciler = new Reconciler({
  actions,
  layouts,
  clock,
  fillCost: fillFromHost,
  retrySeconds: speed,
  onEvent: (event) => {
    if (event.kind === 'failed')
      log.warn({ replica: event.engine, why: event.why }, 'repair failed, will be tried again');
    else
      log[event.kind === 'created' ? 'debug' : 'info'](
        { replica: event.engine, seconds: event.seconds },
        RECONCILED[event.kind],
      );
  },
});
const RECONCILED = {
  created: 'engine parked',
  'brought-up': 'replica serves',
  cleared: 'replica taken down',
} as const;
const executor = new SwitchExecutor({
  actions,
  publisher,
  journal,
  nowSeconds: () => clock.nowSeconds(),
  exclusive: (gpus) => reconciler.leaves(gpus),
  onDeployment: (deployment) => reconciler.want(deployment),
  onEvent: (event) => {
    const { level, message, fields } = switchLine(event);
    log[level](fields, message);
  },
});
const fleet = new LiveFleet({
  cluster,
  watch,
  gateway,
  publisher,
  reconciler,
  switches: executor,
  nowSeconds: () => clock.nowSeconds(),
  onTrouble: (what, error) => log.warn({ error }, `${what} does not answer`),
});
const resume = resumedState();
const controller = new WorkerController({ input: { ...input, ...(resume ? { resume } : {}) } });
const budget: WorkUnits = {
  searchNodes: config.search.nodes,
  simulatedRequests: config.twin.simulatedRequests,
};

function kindOf(gpus: readonly number[]): string {
  let first = 0;
  for (const node of cluster.nodes) {
    if (gpus[0]! < first + node.gpuCount) return node.gpuKind;
    first += node.gpuCount;
  }
  throw new Error(`Bug in oserve: GPU ${gpus[0]} is in the cluster`);
}

/** Each GPU reads its shard over its own link from host memory. */
function fillFromHost(layout: Layout): { bytes: number; seconds: number } {
  const model = models.find(({ spec }) => spec.name === layout.model)!.spec;
  const shard = Math.max(...weightBytesByStage(model, layout.strategy));
  return { bytes: weightBytes(model), seconds: shard / gpuKind(layout.gpuKind).hostBytesPerSecond };
}

/** The deployment at the start of the pool, placed on layouts that are parked. */
function placedInitial() {
  return placeDeployment(
    cluster,
    [],
    initialDeployment(input),
    models.map(({ spec }) => spec),
    { parkedLayouts: layouts },
  );
}

/** What the controller before this one knew, so that this one does not start from its prior. */
function resumedState(): ResumedState | null {
  for (const { decision } of journal.ticksOfRun(RECENT_TICKS)) {
    if (decision.kind === 'none') continue;
    const history = journal.history(HISTORY_WINDOWS).map(({ counts }) => counts);
    return { atSeconds: clock.nowSeconds(), routing: decision.routing, history };
  }
  return null;
}

/** Takes over from the controller before this one: its table, its switch, the deployment that it left. */
function takeOver(): void {
  const lastSwitch = journal.lastSwitch();
  let routingOfSwitch: RoutingTable | null = null;
  for (const { decision } of journal.ticksOfRun(RECENT_TICKS)) {
    if (decision.kind === 'none') continue;
    if (publisher.table === null) publisher.setTable(decision.routing);
    if (lastSwitch?.state.outcome !== null) break;
    if (decision.kind === 'switch' && lastSwitch.state.plan.id.split('@')[0] === decision.plan.id) {
      routingOfSwitch = decision.routing;
      break;
    }
  }
  reconciler.want(executor.resume(routingOfSwitch) ?? placedInitial());
}

let arrivals = { count: 0, fromSeconds: clock.nowSeconds() };
let allServed = false;

/** Tells people what was decided when it is written down, so before what it leads to. */
const told: Journal = {
  append(record) {
    arrivals.count += record.seen.arrivals;
    const line = tickLine(record, { count: arrivals.count, seconds: record.atSeconds - arrivals.fromSeconds });
    if (line) log.info(line.fields, line.message);
    if (record.kind === 'slow') arrivals = { count: 0, fromSeconds: record.atSeconds };
    journal.append(record);
    if (record.kind === 'slow') keepHistory(record);
  },
};

/** Arrivals of the window that ended, by type. */
function keepHistory({ atSeconds, seen, types }: TickRecord): void {
  const windowSeconds = config.control.slowTickSeconds;
  const counts = Object.fromEntries(types.map(({ id }, j) => [id, (seen.arrivalRate[j] ?? 0) * windowSeconds]));
  journal.keepHistory({ windowEndSeconds: atSeconds, windowSeconds, counts });
}

async function step(kind: 'slow' | 'fast'): Promise<void> {
  await controlStep({ controller, fleet, journal: told, budget }, kind);
  // The pool is up once all of the initial deployment serves and the gateway knows.
  const serving = [...watch.view.engines.values()].filter((engine) => engine.state === 'serving').length;
  if (!allServed && serving >= reconciler.wanted.length && publisher.version > 0) {
    allServed = true;
    tellParent({ kind: 'serving' });
  }
}

const loop = new ControlLoop({
  clock,
  fastTickSeconds: config.control.fastTickSeconds,
  slowTickSeconds: config.control.slowTickSeconds,
  step,
  onFailure: (error, inARow) => {
    log.error({ error }, 'tick failed');
    if (inARow >= MOST_FAILURES_IN_A_ROW) process.exit(1);
  },
});

await watch.refresh();
takeOver();
loop.start();
let attending = false;
const attend = setInterval(() => {
  if (attending) return;
  attending = true;
  void fleet.attend().finally(() => {
    attending = false;
  });
}, ATTEND_MS);

/** No more ticks and repairs. */
async function rest(): Promise<void> {
  clearInterval(attend);
  await loop.stop();
}

endWithParent(async () => {
  await rest();
  await controller.close();
  journal.close();
});
// The pool is being ended: no more decisions, while the gateway lets running answers end.
onParentMessage((message) => {
  if (message.kind === 'ending') void rest();
});
tellParent({ kind: 'ready' });
