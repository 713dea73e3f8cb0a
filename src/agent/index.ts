// The emulated node agent and its engines: core/replica on the pool's clock behind vLLM's HTTP API.

export { type EngineControl, type EngineLoad, serveEngineCalls } from './engine-control.ts';
export type { AgentInput, AgentOptions, EmulatedEngineInput, EmulatedEngineOptions } from './options.ts';
export { agentOptionsSchema, emulatedEngineOptionsSchema } from './options.ts';
export { type StartedAgent, startAgent } from './start-agent.ts';
export { type EngineParts, type StartedEngine, startEngine } from './start-engine.ts';
