// Runs a pool in the foreground: starts its processes in order, keeps them alive, writes down who runs where, and ends
// all of them in order when it is asked to.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ConfigError } from '../../core/domain/index.ts';
import {
  assertPortFree,
  type ChildEvent,
  createLogger,
  findFreePort,
  initialDeployment,
  type LoadedConfig,
  loadProfiles,
  PoolClock,
  SqliteJournal,
  Supervisor,
  writePoolState,
} from '../../host/index.ts';
import { type PoolProcesses, poolProcesses } from './pool-processes.ts';

/** Exit code after a second Ctrl-C, as shells count it: 128 + SIGINT. */
const FORCED = 130;
const STOP_ORDER = ['traffic', 'gateway', 'controller', 'agent'];

/**
 * Resolves with the exit code when everything has ended.
 *
 * @throws {@link ConfigError} when a port is taken or the start is impossible, {@link JournalError} when another pool uses the state directory,
 *   {@link EngineError} when a process does not start; nothing is left running then.
 */
export async function runPool(loaded: LoadedConfig, write: (text: string) => void): Promise<number> {
  const { config } = loaded;
  initialDeployment({ ...loaded, profiles: loadProfiles() }); // what cannot be placed is said now
  if (loaded.trafficFile !== null && !existsSync(loaded.trafficFile)) {
    throw new ConfigError(`There is no trace file ${loaded.trafficFile}.`, {
      hint: 'traffic.source (--traffic) is none, generated, or the name of a trace file.',
    });
  }
  const stateDirectory = resolve(config.stateDirectory);
  const poolId = `${Date.now().toString(36)}-${randomBytes(4).toString('hex')}`;
  const ports = await choosePorts(loaded);
  claimStateDirectory(stateDirectory, poolId);
  const processes = poolProcesses(loaded, {
    ...ports,
    poolId,
    token: randomBytes(24).toString('hex'),
    clock: PoolClock.startNow(config.emulation.speed),
    stateDirectory,
  });

  const log = createLogger({ name: 'supervisor' });
  let up = () => {};
  const serving = new Promise<void>((isUp) => {
    up = isUp;
  });
  const died = new Set<string>();
  const supervisor = new Supervisor({
    onEvent: (child, event) => {
      if (event.kind === 'message' && event.message.kind === 'serving') up();
      if (event.kind === 'died' && !stop.asked) {
        died.add(child);
        log.warn(`${child} ended (${event.how}); it comes back in ${(event.restartMs / 1000).toFixed(1)} s`);
      }
      if (event.kind === 'ready' && died.delete(child)) log.info(`${child} is back`);
      if (CHANGES.has(event.kind)) writeState();
    },
  });
  const writeState = () =>
    writePoolState(stateDirectory, {
      poolId,
      supervisorPid: process.pid,
      url: processes.url,
      adminUrl: processes.adminUrl,
      agents: processes.agents.map(({ name, url }) => ({ name, url })),
      processes: [...supervisor.children],
    });
  const stop = listenForStop(supervisor);

  try {
    write(`${greeting(loaded)}\n`);
    await Promise.race([startAll(supervisor, processes), stop.requested]);
    await Promise.race([serving, stop.requested]);
    if (!stop.asked) {
      write(`${invitation(loaded, processes)}\n`);
      if (processes.traffic) await supervisor.start(processes.traffic);
    }
    await stop.requested;
    if (!stop.forced) write('ending\n');
    await supervisor.stop(STOP_ORDER);
  } catch (error) {
    await supervisor.stop(STOP_ORDER);
    if (!stop.asked) throw error; // what fails while we end is part of the end
  } finally {
    stop.close();
    writeState();
  }
  return stop.forced ? FORCED : 0;
}

const CHANGES: ReadonlySet<ChildEvent['kind']> = new Set(['started', 'died', 'ended']);

async function startAll(supervisor: Supervisor, processes: PoolProcesses): Promise<void> {
  await Promise.all([
    ...processes.agents.map(({ spec }) => supervisor.start(spec)),
    supervisor.start(processes.gateway),
  ]);
  await supervisor.start(processes.controller);
}

async function choosePorts({ config, cluster }: LoadedConfig) {
  const { host, port, adminPort } = config.gateway;
  const loopback = '127.0.0.1';
  if (port !== 0) await assertPortFree(port, host, '--port or gateway.port');
  if (adminPort !== 0) await assertPortFree(adminPort, loopback, 'gateway.adminPort');
  const taken = new Set([port, adminPort]);
  const choose = async (on: string) => {
    const free = await findFreePort(on, taken);
    taken.add(free);
    return free;
  };
  const dataPort = port === 0 ? await choose(host) : port;
  const admin = adminPort === 0 ? await choose(loopback) : adminPort;
  const agentPorts: number[] = [];
  for (const _ of cluster.nodes) agentPorts.push(await choose(loopback));
  return { dataPort, adminPort: admin, agentPorts };
}

/**
 * Opens and closes the journal: says now, in one sentence, what the controller would say later. Then it is ours, and the
 * routing that gateways of earlier pools kept there is of no use any more.
 */
function claimStateDirectory(stateDirectory: string, poolId: string): void {
  mkdirSync(stateDirectory, { recursive: true });
  new SqliteJournal({ directory: stateDirectory, run: poolId }).close();
  for (const name of readdirSync(stateDirectory)) {
    if (/^routing-.*\.json$/.test(name)) rmSync(join(stateDirectory, name));
  }
}

/** Ctrl-C, SIGTERM and a closed terminal ask to stop; a second Ctrl-C or SIGTERM ends everything at once. */
function listenForStop(supervisor: Supervisor) {
  let request = () => {};
  const state = {
    asked: false,
    forced: false,
    requested: new Promise<void>((resolveRequest) => {
      request = resolveRequest;
    }),
    close() {
      for (const signal of SIGNALS) process.off(signal, onSignal);
    },
  };
  const onSignal = () => {
    if (state.asked) {
      state.forced = true;
      supervisor.kill();
    }
    state.asked = true;
    request();
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  return state;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

function greeting({ config, cluster, models }: LoadedConfig): string {
  const kinds = [...new Set(cluster.nodes.map((node) => node.gpuKind))].join(' and ');
  const gpuCount = cluster.nodes.reduce((sum, node) => sum + node.gpuCount, 0);
  const names = models.map(({ spec }) => spec.name).join(', ');
  const { speed } = config.emulation;
  return `oserve: ${names} on ${gpuCount} emulated ${kinds} GPUs in ${cluster.nodes.length} node(s)${speed === 1 ? '' : `, ${speed} times as fast as real time`}`;
}

function invitation({ models }: LoadedConfig, { url }: PoolProcesses): string {
  const body = JSON.stringify({ model: models[0]!.spec.name, prompt: 'Hello', max_tokens: 32 });
  return [
    `serving at ${url}, ended by Ctrl-C; try`,
    `  curl ${url}/v1/completions -H 'content-type: application/json' -d '${body}'`,
  ].join('\n');
}
