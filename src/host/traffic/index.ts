// The client that traffic comes from: for `oserve replay`, and for pools that make their own traffic.
export { clientLimit, type ServerFacts } from './prompts.ts';
export {
  repeatTrace,
  runTraffic,
  type TrafficOptions,
  type TrafficProgress,
  type TrafficReport,
} from './run-traffic.ts';
export { readServerFacts } from './server-facts.ts';
