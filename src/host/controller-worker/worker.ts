// The thread that a controller thinks in; see worker-controller.ts.
import { parentPort, workerData } from 'node:worker_threads';
import { makeController } from '../../core/control/index.ts';
import { invariant, OserveError } from '../../core/domain/index.ts';
import { type ControllerInput, controllerConfigOf } from './controller-config.ts';
import type { TickAnswer, TickRequest } from './worker-controller.ts';

invariant(parentPort, 'this module runs in a worker thread');
const port = parentPort;
const controller = makeController(controllerConfigOf(workerData as ControllerInput));

function answerTo({ observation, budget }: TickRequest): TickAnswer {
  try {
    return { kind: 'record', record: controller.tick(observation, budget) };
  } catch (error) {
    if (error instanceof OserveError) {
      return { kind: 'refused', code: error.code, message: error.message, hint: error.hint };
    }
    const { message, stack } = error instanceof Error ? error : { message: String(error), stack: undefined };
    return { kind: 'bug', message, stack };
  }
}

port.on('message', (request: TickRequest) => port.postMessage(answerTo(request)));
