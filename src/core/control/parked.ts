// What parked layouts cost: memory that the KV cache cannot have. Of all layouts that a GPU has, one serves.
import type { ParkedLayout } from './config.ts';

/** Layouts that are parked beside the one that serves, on the GPU that has most of them. */
export function mostParkedLayouts(layouts: readonly ParkedLayout[]): number {
  const perGpu = new Map<number, number>();
  for (const { gpus } of layouts) for (const gpu of gpus) perGpu.set(gpu, (perGpu.get(gpu) ?? 0) + 1);
  return Math.max(0, Math.max(0, ...perGpu.values()) - 1);
}

/** Bytes on that GPU; charged to every GPU, so that equal replicas stay equal. */
export const mostParkedBytes = (layouts: readonly ParkedLayout[], bytesPerLayout: number): number =>
  mostParkedLayouts(layouts) * bytesPerLayout;
