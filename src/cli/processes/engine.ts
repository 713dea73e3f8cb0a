// Process of one emulated engine, a child of its agent: ends on SIGTERM, and when its agent is gone.
import { serveEngineCalls, startEngine } from '../../agent/index.ts';
import { endWithParent, processOptions, tellParent } from '../../host/index.ts';

try {
  const { url, control, close } = await startEngine(processOptions() as Parameters<typeof startEngine>[0]);
  serveEngineCalls(control, process);
  endWithParent(close);
  tellParent({ kind: 'ready', url });
} catch (error) {
  tellParent({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
  console.error(error);
  process.exitCode = 1;
  process.disconnect?.();
}
