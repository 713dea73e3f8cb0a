// A fitted profile as a fixed example for tests: unit tests must not move when the committed profiles are fitted again.
import type { Profile } from '../profile.ts';

/** H100-80GB as fitted at first (see data/profiles/h100-80gb.json for the one in use). */
export const exampleProfile: Profile = {
  name: 'example: H100-80GB',
  gpuKind: 'H100-80GB',
  engine: 'vLLM V1',
  gpusPerNode: 8,
  range: 'bf16; to 16384 tokens a step, 256 sequences, 32768 tokens of context; 8 GPUs a node',
  sources: [],
  coefficients: {
    gemm: {
      kernelSeconds: 0.00000371595,
      memoryBytesPerSecond: 2970330000000,
      flopsPerSecond: 806690000000000,
      sharpness: 3.25782,
    },
    elementwise: {
      kernelSeconds: 0.0000131043,
      bytesPerSecond: 1768970000000,
    },
    attention: {
      kernelSeconds: 0.0000117975,
      decodeSequenceSeconds: 2.98367e-8,
      decodeBytesPerSecond: 3003730000000,
      prefillBytesPerSecond: 1387670000000,
      prefillFlopsPerSecond: 683934000000000,
    },
    allReduce: {
      '2': {
        latencySeconds: 0.00000421812,
        bytesPerSecond: 220580000000,
      },
      '4': {
        latencySeconds: 0.00000486728,
        bytesPerSecond: 178661000000,
      },
      '8': {
        latencySeconds: 0.0000060734,
        bytesPerSecond: 194383000000,
      },
    },
    handOver: {
      insideNode: {
        latencySeconds: 0.00000763322,
        bytesPerSecond: 361378000000,
      },
      betweenNodes: {
        latencySeconds: 0.0000189157,
        bytesPerSecond: 36362400000,
      },
    },
    host: {
      stepSeconds: 0.00127501,
      sequenceSeconds: 0.0000650989,
    },
  },
  fits: [],
};
