import { afterEach, expect, test } from 'vitest';
import { type Observation, OserveError } from '../../core/domain/index.ts';
import { type ControllerInput, WorkerController } from './index.ts';

const budget = { searchNodes: 1, simulatedRequests: 1 };
const observation = (atSeconds: number) => ({ kind: 'fast', atSeconds }) as Observation;
let controller: WorkerController;
afterEach(() => controller.close());

/** A thread that answers each tick with what the body makes of it. */
function controllerThat(body: string): WorkerController {
  const code = `import { parentPort, workerData } from 'node:worker_threads';
    parentPort.on('message', ({ observation, budget }) => { ${body} });`;
  controller = new WorkerController({
    input: { config: { seed: 7 } } as unknown as ControllerInput,
    workerUrl: new URL(`data:text/javascript,${encodeURIComponent(code)}`),
  });
  return controller;
}

test('an observation goes to the thread, its record comes back', async () => {
  controllerThat(
    `parentPort.postMessage({ kind: 'record', record: { atSeconds: observation.atSeconds, tick: workerData.config.seed } });`,
  );
  expect(await controller.tick(observation(3), budget)).toEqual({ atSeconds: 3, tick: 7 });
  expect(await controller.tick(observation(4), budget)).toEqual({ atSeconds: 4, tick: 7 });
});

test('an error of the world keeps its code and hint on the way', async () => {
  controllerThat(
    `parentPort.postMessage({ kind: 'refused', code: 'infeasible', message: 'too small', hint: 'more GPUs' });`,
  );
  const error = await controller.tick(observation(1), budget).catch((caught) => caught);
  expect(error).toBeInstanceOf(OserveError);
  expect([error.code, error.message, error.hint]).toEqual(['infeasible', 'too small', 'more GPUs']);
});

test('a bug comes back with the stack of the thread, and the next tick is answered', async () => {
  controllerThat(`parentPort.postMessage(observation.atSeconds === 1
    ? { kind: 'bug', message: 'Bug in oserve: x', stack: 'over there' } : { kind: 'record', record: {} });`);
  const error = await controller.tick(observation(1), budget).catch((caught) => caught);
  expect([error.message, error.stack]).toEqual(['Bug in oserve: x', 'over there']);
  await expect(controller.tick(observation(2), budget)).resolves.toEqual({});
});

test('a thread that dies fails the tick under way and all later ones', async () => {
  controllerThat(`process.exit(3);`);
  await expect(controller.tick(observation(1), budget)).rejects.toThrow('ended with code 3');
  await expect(controller.tick(observation(2), budget)).rejects.toThrow('ended with code 3');
});

test('two ticks at once are a bug of the caller', async () => {
  controllerThat(`parentPort.postMessage({ kind: 'record', record: {} });`);
  const first = controller.tick(observation(1), budget);
  expect(() => controller.tick(observation(2), budget)).toThrow('one tick at a time');
  await first;
});
