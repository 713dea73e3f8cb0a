// An emulated engine for tests, in this process, on a clock that runs fast.

import { type EmulatedEngineInput, type StartedEngine, startEngine } from '../../src/agent/index.ts';
import { DEFAULT_ENGINE_OPTIONS, modelByName, onTimeGrid, type StepTimeOf } from '../../src/core/domain/index.ts';

/** A simple step time of a plausible size: 10 ms, more with prompts and with many sequences. */
export const simpleStepTime: StepTimeOf = () => ({
  stageSeconds: (prefillTokens, _pairs, decodeSequences) =>
    onTimeGrid(0.01 + prefillTokens * 5e-5 + decodeSequences * 1e-4),
});

export const FAST = 200;

export function startEmulatedEngine(options: Partial<EmulatedEngineInput> = {}): Promise<StartedEngine> {
  return startEngine(
    {
      epochMs: Date.now(),
      speed: FAST,
      id: 'engine-under-test',
      model: modelByName('llama3-8b'),
      gpuKind: 'H100-80GB',
      strategy: { tensorParallel: 1, pipelineParallel: 1 },
      engine: { ...DEFAULT_ENGINE_OPTIONS },
      kvBlocks: 4096,
      maxModelLen: 16384,
      ...options,
    },
    { stepTimeOf: simpleStepTime },
  );
}
