// The control loop: one step, the controller behind it, and the policies that it is compared with.
export * from './config.ts';
export * from './control-step.ts';
export { inDeployment, makeController } from './oserve-controller.ts';
export { priorWorkload } from './prior.ts';
export { ServiceRates } from './rates.ts';
export { makeRequestRouter, type RequestRouter } from './request-router.ts';
