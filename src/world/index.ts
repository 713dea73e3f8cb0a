// The evaluation world: not the model that plans. The core cannot see it.
export {
  type EvaluationWorld,
  evaluationWorld,
  REPLICA_SIGMA,
  SECOND_SIGMA,
  WORLD_STATE_AGE_SECONDS,
  type WorldOptions,
  worldStateAge,
  worldStepOutcome,
  worldStepTime,
} from './evaluation-world.ts';
export { HOST_SECONDS } from './table-step-time.ts';
