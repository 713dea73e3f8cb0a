// Puts an emulated agent together: engines as children or in this process, and the fleet protocol over HTTP.
import { ConfigError } from '../core/domain/index.ts';
import { PoolClock } from '../host/index.ts';
import { Agent } from './agent.ts';
import { AgentApi } from './agent-http.ts';
import { closeServer, listen, urlOf } from './http.ts';
import { type AgentInput, agentOptionsSchema } from './options.ts';
import { type LaunchEngine, launchProcess, launchShared } from './running-engine.ts';
import type { EngineParts } from './start-engine.ts';

export interface StartedAgent {
  readonly url: string;
  readonly agent: Agent;
  /** Ends the engines in order, then the agent. */
  close(): Promise<void>;
}

/**
 * @param parts - needed with isolation `shared` only; an engine process brings its own.
 */
export async function startAgent(input: AgentInput, parts?: EngineParts): Promise<StartedAgent> {
  const options = agentOptionsSchema.parse(input);
  const agent = new Agent(options, new PoolClock(options), launcher());
  const server = await listen(new AgentApi(agent, options.token).listener, options.host, options.port);
  return {
    url: urlOf(server),
    agent,
    async close() {
      await agent.close();
      await closeServer(server);
    },
  };

  function launcher(): LaunchEngine {
    if (options.isolation === 'process') return launchProcess(options.engineEntry);
    if (!parts) throw new ConfigError('Engines that share the process of their agent need a step time.');
    return launchShared(parts);
  }
}
