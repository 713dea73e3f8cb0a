// Process that makes traffic for a pool: a client like any other, which reads and checks every answer.
import type { TraceRequest } from '../../core/domain/index.ts';
import { random } from '../../core/math/index.ts';
import {
  createLogger,
  endWithParent,
  generateRequests,
  generatorOptionsOf,
  processOptions,
  readTrace,
  repeatTrace,
  runTraffic,
  scaleTrace,
  tellParent,
} from '../../host/index.ts';
import type { TrafficProcessOptions } from './traffic-options.ts';

const { url, file, traffic } = processOptions() as TrafficProcessOptions;
const log = createLogger({ name: 'traffic' });
const stop = new AbortController();

async function requests(): Promise<Iterable<TraceRequest>> {
  if (file !== null) {
    const trace = await readTrace(file, (note) => log.warn(note));
    const scaled = scaleTrace(trace, traffic.rateScale, random(traffic.seed).fork('rate scale'));
    return traffic.repeat ? repeatTrace(scaled) : scaled;
  }
  return generateRequests(generatorOptionsOf({ traffic }));
}

try {
  const made = await requests();
  tellParent({ kind: 'ready' });
  const running = runTraffic({
    url,
    requests: made,
    seed: traffic.seed,
    signal: stop.signal,
    keepOutcomes: false,
    onFault: (number, fault, message) => log.warn({ request: number, fault }, message),
  }).then(({ sent, completed, refused, failed, switches }) => {
    log.info(
      `${sent} requests sent: ${completed} answered whole, ${refused} refused, ${failed} failed; ${switches} switches`,
    );
  });
  endWithParent(async () => {
    stop.abort();
    await running;
  }, 10_000);
  await running;
  process.disconnect?.(); // the trace is over: nothing is left to do
} catch (error) {
  log.error({ error }, 'no traffic');
  process.exitCode = 1;
  process.disconnect?.();
}
