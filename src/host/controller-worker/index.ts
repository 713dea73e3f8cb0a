// The controller in a worker thread, behind an async port.
export { type ControllerInput, controllerConfigOf } from './controller-config.ts';
export { WorkerController, type WorkerControllerOptions } from './worker-controller.ts';
