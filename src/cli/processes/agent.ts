// Process of one emulated node agent. Ends on SIGTERM, its engines first; a second SIGTERM forces. When it is killed, its
// engines see their channel close and end by themselves.
import { startAgent } from '../../agent/index.ts';
import { endWithParent, processOptions, tellParent } from '../../host/index.ts';

try {
  const { url, close } = await startAgent(processOptions() as Parameters<typeof startAgent>[0]);
  let signals = 0;
  process.on('SIGTERM', () => {
    signals += 1;
    if (signals > 1) process.exit(1);
  });
  endWithParent(close);
  tellParent({ kind: 'ready', url });
} catch (error) {
  console.error(error);
  process.exitCode = 1;
  process.disconnect?.();
}
