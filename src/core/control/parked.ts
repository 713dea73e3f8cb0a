// What parked layouts cost: memory that the KV cache cannot have.
import type { ParkedLayout } from './config.ts';

/** Layouts on the GPU that holds most of them. */
export function mostParkedLayouts(layouts: readonly ParkedLayout[]): number {
  const perGpu = new Map<number, number>();
  for (const { gpus } of layouts) for (const gpu of gpus) perGpu.set(gpu, (perGpu.get(gpu) ?? 0) + 1);
  return Math.max(0, ...perGpu.values());
}

/** Bytes on the GPU that holds most of them; charged to every GPU, so that equal replicas stay equal. */
export const mostParkedBytes = (layouts: readonly ParkedLayout[], bytesPerLayout: number): number =>
  mostParkedLayouts(layouts) * bytesPerLayout;
