// Makes a profile from measurements: kernels of the GPU itself, and the host's share from measured serving with vLLM.
import { fitHost, fitKernels, type Profile } from '../../core/replica/index.ts';
import { sharedDataDirectory } from '../traces/index.ts';
import { readKernelTables } from './kernel-tables.ts';
import { closedLoops } from './measured-serving.ts';

/** Where the host's coefficients are measured: the only closed loops of vLLM with a bf16 model on our GPUs. */
const HOST_ENGINE = 'vllm 0.12.0';
const HOST_GPU = 'H100-80GB';
/** Where the first token takes longer than this, requests queued for KV memory, which tells nothing of the host. */
const HOST_MAX_TTFT_SECONDS = 2;
/** Which vLLM the kernels were measured with. */
const kernelEngine = (gpuKind: string): string => (gpuKind === 'A100-80GB' ? 'vLLM 0.14.0' : 'vLLM 0.24.0');
const HOST_START = { stepSeconds: 2e-3, sequenceSeconds: 2e-5 };

function kernelProfile(gpuKind: string, dataDirectory: string): Profile {
  const tables = readKernelTables(gpuKind, dataDirectory);
  const { coefficients, fits } = fitKernels(tables);
  return {
    name: `${gpuKind}: kernels of ${kernelEngine(gpuKind)}, host of ${HOST_ENGINE}`,
    gpuKind,
    engine: 'vLLM V1',
    gpusPerNode: 8,
    range: 'bf16; to 16384 tokens a step, 256 sequences, 32768 tokens of context; 8 GPUs a node',
    sources: tables.sources,
    coefficients: { ...coefficients, host: HOST_START },
    fits,
  };
}

/**
 * Fits one profile per kind of GPU. The host's coefficients are fitted on the H100 alone and used for all kinds: they
 * belong to the engine's CPU, and there is no comparable measurement elsewhere.
 */
export function calibrate(gpuKinds: readonly string[], dataDirectory = sharedDataDirectory()): Profile[] {
  const loops = closedLoops(dataDirectory).filter(
    (loop) =>
      loop.servingEngine === HOST_ENGINE &&
      loop.replicaClass.gpuKind === HOST_GPU &&
      loop.ttftSeconds <= HOST_MAX_TTFT_SECONDS,
  );
  const { host, report } = fitHost(
    kernelProfile(HOST_GPU, dataDirectory),
    loops.filter((_, i) => i % 2 === 0),
    loops.filter((_, i) => i % 2 === 1),
    `e2e_closed_loop_silicon: ${HOST_ENGINE}, Qwen3-32B, ${HOST_GPU}, TP2 and TP8, first token within ${HOST_MAX_TTFT_SECONDS} s; error of seconds per output token`,
  );
  return gpuKinds.map((gpuKind) => {
    const profile = kernelProfile(gpuKind, dataDirectory);
    return { ...profile, coefficients: { ...profile.coefficients, host }, fits: [...profile.fits, report] };
  });
}
