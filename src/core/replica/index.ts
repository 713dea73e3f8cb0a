// One replica's behaviour: step time, memory, batching, KV blocks. Driven, never driving.
export { ReplicaEngine, type ReplicaEngineOptions, type TokenSink } from './replica-engine.ts';
