// Puts an emulated agent together: engines as children or in this process, and the fleet protocol over HTTP.
import { PoolClock } from '../host/index.ts';
import { Agent } from './agent.ts';
import { AgentApi } from './agent-http.ts';
import { closeServer, listen, urlOf } from './http.ts';
import { launchProcess, launchShared } from './launch-engine.ts';
import { type AgentInput, agentOptionsSchema } from './options.ts';
import type { EngineParts } from './start-engine.ts';

export interface StartedAgent {
  readonly url: string;
  readonly agent: Agent;
  /** Ends the engines in order, then the agent. */
  close(): Promise<void>;
}

/**
 * @param parts - for engines that share this process; others have nothing but their options.
 */
export async function startAgent(input: AgentInput, parts: EngineParts = {}): Promise<StartedAgent> {
  const options = agentOptionsSchema.parse(input);
  const launch = options.isolation === 'process' ? launchProcess(options.engineEntry) : launchShared(parts);
  const agent = new Agent(options, new PoolClock(options), launch);
  const server = await listen(new AgentApi(agent, options.token).listener, options.host, options.port);
  return {
    url: urlOf(server),
    agent,
    async close() {
      await agent.close();
      await closeServer(server);
    },
  };
}
