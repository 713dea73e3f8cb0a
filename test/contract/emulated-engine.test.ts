import { startEmulatedEngine } from './emulated-engine.ts';
import { engineApiContract } from './engine-api.ts';

engineApiContract(async () => {
  const { url, close } = await startEmulatedEngine();
  return { url, model: 'llama3-8b', stop: close };
});
