// The control loop: one step, the controller behind it, and the policies that it is compared with.
export * from './config.ts';
export * from './control-step.ts';
export * from './drive.ts';
export { forecastWindows } from './forecast-rates.ts';
export { inDeployment, makeController } from './oserve-controller.ts';
export * from './plan.ts';
export { firstDeployment } from './planner.ts';
export * from './policies.ts';
export { priorWorkload } from './prior.ts';
export { ServiceRates } from './rates.ts';
export { makeRequestRouter, RequestRouter } from './request-router.ts';
export * from './workload-of-trace.ts';
