import { startAgent } from '../../src/agent/index.ts';
import { modelByName } from '../../src/core/domain/index.ts';
import { FAST, simpleStepTime } from './emulated-engine.ts';
import { fleetProtocolContract } from './fleet-protocol.ts';

const layout = (tensorParallel: number, gpus: number[]) => ({
  model: 'llama3-8b',
  gpuKind: 'H100-80GB',
  strategy: { tensorParallel, pipelineParallel: 1 },
  gpus,
});

fleetProtocolContract(async () => {
  const token = 'a token of this test';
  const { url, close } = await startAgent(
    {
      epochMs: Date.now(),
      speed: FAST,
      agent: 'node-1',
      nodeIndex: 1,
      token,
      gpus: [8, 9].map((gpu) => ({ gpu, gpuKind: 'H100-80GB' })),
      models: [modelByName('llama3-8b')],
      isolation: 'shared',
    },
    { stepTimeOf: simpleStepTime },
  );
  return {
    url,
    token,
    layouts: [layout(2, [8, 9]), layout(1, [8])],
    fill: { source: 'host', bytes: 16e9, seconds: 0.4 },
    stop: close,
  };
});
