import { afterAll, beforeAll, expect, test } from 'vitest';
import { modelByName } from '../core/domain/index.ts';
import { type StartedAgent, startAgent } from './start-agent.ts';

let agent: StartedAgent;
beforeAll(async () => {
  agent = await startAgent({
    epochMs: Date.now(),
    agent: 'node-0',
    nodeIndex: 0,
    token: 'secret',
    gpus: [{ gpu: 0, gpuKind: 'H100-80GB' }],
    models: [modelByName('llama3-8b')],
    isolation: 'shared',
  });
});
afterAll(() => agent.close());

const ask = async (method: string, path: string, token = 'secret') => {
  const response = await fetch(agent.url + path, { method, headers: { authorization: `Bearer ${token}` } });
  return { status: response.status, json: await response.json() };
};

test('a GPU of emulated hardware is lost and restored by hand, with the token only', async () => {
  expect((await ask('POST', '/emulated/v1/gpus/0/lose', 'guess')).status).toBe(401);
  expect((await ask('GET', '/fleet/v1/inventory')).json).toMatchObject({ gpus: [{ gpu: 0, lost: false }] });
  expect((await ask('POST', '/emulated/v1/gpus/0/lose')).json).toMatchObject({ gpus: [{ lost: true }] });
  expect((await ask('POST', '/emulated/v1/gpus/0/restore')).json).toMatchObject({ gpus: [{ lost: false }] });
  expect((await ask('POST', '/emulated/v1/gpus/5/lose')).status).toBe(400);
});

test.each([
  ['GET', '/', 404],
  ['GET', '//', 404],
  ['GET', '/fleet/v1/%zz', 400],
  ['GET', '/fleet/v1/engines', 404],
  ['POST', '/fleet/v1/inventory', 404],
  ['POST', '/fleet/v1/engines/%2e%2e/wake', 404],
  ['POST', '/fleet/v1/engines/e/fly', 404],
  ['GET', '/fleet/v1/events?after=-1', 400],
  ['GET', '/fleet/v1/events?after=x', 400],
  ['GET', '/fleet/v1/events?waitSeconds=soon', 400],
  ['GET', '/fleet/v1/manifest', 404],
])('%s %s is answered with %i and an error body', async (method, path, status) => {
  const answer = await ask(method, path);
  expect(answer).toMatchObject({ status, json: { error: { message: expect.any(String), code: expect.any(String) } } });
});
