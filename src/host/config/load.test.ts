import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OserveError } from '../../core/domain/index.ts';
import { loadConfig } from './load.ts';
import { flagOverrides } from './overrides.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'oserve-config-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const fileWith = (yaml: string, name = 'pool.yaml'): string => {
  const file = join(folder, name);
  writeFileSync(file, yaml);
  return file;
};

const load = (yaml: string, environment: Record<string, string> = {}, flags = flagOverrides({})) =>
  loadConfig({ file: fileWith(yaml), environment, flags });

/** The error that a configuration gives, as message and hint. */
function complaint(yaml: string, environment: Record<string, string> = {}): string {
  try {
    load(yaml, environment);
  } catch (error) {
    if (error instanceof OserveError) return `${error.message} ${error.hint ?? ''}`;
    throw error;
  }
  throw new Error('the configuration was accepted');
}

test('without a file everything has its default and says so', () => {
  const { config, sources, cluster, models } = loadConfig({ environment: {} });
  expect(config.gateway.port).toBe(8080);
  expect(sources.get('gateway.port')).toEqual({ kind: 'default', where: '' });
  expect(cluster.nodes.map((node) => node.gpuCount)).toEqual([8, 8]);
  expect(models.map(({ spec }) => spec.name)).toEqual(['llama2-70b']);
});

test('a flag beats the environment, which beats the file, which beats the default', () => {
  const yaml = 'gateway:\n  port: 7001\n  maxQueuedRequests: 5\n';
  expect(load(yaml).config.gateway.port).toBe(7001);
  const environment = { OSERVE_GATEWAY_PORT: '7002' };
  expect(load(yaml, environment).config.gateway.port).toBe(7002);
  const all = load(yaml, environment, flagOverrides({ port: 7003 }));
  expect(all.config.gateway).toMatchObject({ port: 7003, maxQueuedRequests: 5, shutdownSeconds: 30 });
  expect(all.sources.get('gateway.port')).toEqual({ kind: 'flag', where: '--port' });
  expect(load(yaml, environment).sources.get('gateway.port')).toEqual({
    kind: 'environment',
    where: 'OSERVE_GATEWAY_PORT',
  });
  expect(all.sources.get('gateway.maxQueuedRequests')).toEqual({
    kind: 'file',
    where: `${join(folder, 'pool.yaml')}:3:22`,
  });
});

test('lists can come from the environment as JSON, and --gpus makes nodes of eight', () => {
  const { models } = load('', { OSERVE_MODELS: '[{"name":"opt-30b"},{"name":"llama3-8b"}]' });
  expect(models.map(({ spec }) => spec.name)).toEqual(['opt-30b', 'llama3-8b']);
  const { cluster, sources } = load('', {}, flagOverrides({ gpus: 20 }));
  expect(cluster.nodes.map((node) => node.gpuCount)).toEqual([8, 8, 4]);
  expect(sources.get('cluster.nodes[2].gpusPerNode')).toEqual({ kind: 'flag', where: '--gpus' });
});

test('variables in values are replaced, take the type of what they hold, and may have a default', () => {
  const { config } = load('gateway:\n  port: ${PORT}\n  host: "${HOST:-0.0.0.0}"\nstateDirectory: a$${b}\n', {
    PORT: '9001',
  });
  expect(config.gateway).toMatchObject({ port: 9001, host: '0.0.0.0' });
  expect(config.stateDirectory).toBe('a${b}');
  expect(complaint('gateway:\n  port: ${PORT}\n')).toMatch(/pool\.yaml:2:9: the environment variable PORT is not set/);
});

describe('what is wrong is said with its place and what was expected', () => {
  test.each([
    ['gatway:\n  port: 1\n', /pool\.yaml:1:1: unknown key "gatway" at the top\..*Did you mean "gateway"\?/],
    ['gateway:\n  prot: 1\n', /pool\.yaml:2:3: unknown key "prot" in gateway\..*Did you mean "port"\?/],
    ['models:\n  - name: opt-30b\n    slo: {tpot: 1}\n', /3:11: unknown key "tpot" in models\[0\]\.slo/],
    ['gateway: {port: 99999}', /1:17: gateway\.port: expected a number ≤ 65535, got 99999/],
    ['control: {mode: automatic}', /control\.mode: expected "observe" or "recommend" or "auto", got "automatic"/],
    ['control: {slowTickSeconds: 0}', /control\.slowTickSeconds: expected a number > 0, got 0/],
    ['models:\n  - configFile: x.json\n', /models\[0\]\.name: expected string, got nothing/],
    ['gateway: [1, 2]', /gateway: expected object, got \[1,2\]/],
    ['- 1\n', /the top of a configuration must be a mapping/],
    ['gateway: {port: 1\n', /pool\.yaml:\d+:\d+: /],
    ['a: 1\nb: 2\n', /2 problems in the configuration/],
  ])('%j', (yaml, expected) => {
    expect(complaint(yaml)).toMatch(expected);
  });

  test('a wrong environment variable is blamed by its name', () => {
    expect(complaint('', { OSERVE_GATEWAY_PORT: 'eighty' })).toMatch(/^OSERVE_GATEWAY_PORT: gateway\.port: expected/);
  });

  test('a file that does not exist is one clear sentence', () => {
    expect(() => loadConfig({ file: join(folder, 'none.yaml'), environment: {} })).toThrow(/Cannot read .*none\.yaml/);
  });
});

describe('settings that contradict each other are refused with both numbers', () => {
  test.each([
    ['control: {fastTickSeconds: 90}', /fastTickSeconds \(90\) is longer than control\.slowTickSeconds \(60\)/],
    ['gateway: {port: 8001, adminPort: 8001}', /both 8001/],
    ['models: [{name: opt-30b}, {name: OPT-30B}]', /models has "opt-30b" twice/],
    ['models: [{name: opt-30b, minReplicas: 3, maxReplicas: 2}]', /maxReplicas \(2\) is below minReplicas \(3\)/],
    [
      'cluster: {nodes: [{gpusPerNode: 1}]}',
      /llama2-70b does not fit: even TP1 on H100-80GB needs 128\.\d GiB of weights on a GPU, which is \d+\.\d GiB too much/,
    ],
    [
      'models: [{name: llama2-70b, maxModelLen: 9000000}]',
      /requests of 9000000 tokens, but its largest replica \(TP4PP2 on H100-80GB\) holds \d+/,
    ],
    ['switching: {parkedBytesPerLayout: 60e9, parkedLayouts: [TP4, TP8, TP2]}', /Parked layouts hold 111\.8 GiB/],
    ['switching: {parkedLayouts: [8xTP4]}', /Cannot read the layout "8xTP4"/],
    ['switching: {initial: 5xTP4}', /switching\.initial needs 20 GPUs of H100-80GB; the cluster has 16/],
    ['switching: {initial: 1xTP16}', /TP16|16 GPUs/],
    ['models: [{name: llama-30b}]\nswitching: {initial: 1xTP8}', /llama-30b has 52 heads, which TP8 does not divide/],
    ['switching: {initial: opt-30b:1xTP4}', /names the model "opt-30b", which is not in models/],
    ['models: [{name: llama2-70b, pinned: 3xTP8}]', /models\[\]\.pinned needs 24 GPUs/],
  ])('%j', (yaml, expected) => {
    expect(complaint(yaml)).toMatch(expected);
  });
});

test('a model can come from a Hugging Face config.json beside the file', () => {
  writeFileSync(
    join(folder, 'tiny.json'),
    JSON.stringify({
      model_type: 'llama',
      hidden_size: 2048,
      num_attention_heads: 32,
      num_key_value_heads: 4,
      num_hidden_layers: 22,
      intermediate_size: 5632,
      vocab_size: 32000,
      max_position_embeddings: 2048,
    }),
  );
  const { models } = load('models: [{name: tiny, configFile: tiny.json}]\nswitching: {parkedLayouts: [TP1]}\n');
  expect(models[0]!.spec).toMatchObject({ name: 'tiny', layerCount: 22, kvHeadCount: 4, maxModelLen: 2048 });
  expect(complaint('models: [{name: tiny, configFile: missing.json}]')).toMatch(/Cannot read the model of "tiny"/);
});

test('parked layouts stand on every group of GPUs of their size', () => {
  const { parkedPlaces } = load('switching: {parkedLayouts: [TP4, TP2PP4]}');
  expect(parkedPlaces.filter(({ strategy }) => strategy.tensorParallel === 4).map(({ gpus }) => gpus)).toEqual([
    [0, 1, 2, 3],
    [4, 5, 6, 7],
    [8, 9, 10, 11],
    [12, 13, 14, 15],
  ]);
  expect(parkedPlaces.filter(({ strategy }) => strategy.pipelineParallel === 4)).toHaveLength(2);
});

test('variables that only look like ours are warned about, not refused', () => {
  const { warnings } = load('', { OSERVE_SERVICE_HOST: '10.0.0.1', OSERVE_GATEWAY_PROT: '1', OSERVE_DATA: '/data' });
  expect(warnings).toHaveLength(2);
  expect(warnings.join(' ')).toMatch(/OSERVE_GATEWAY_PROT.*did you mean OSERVE_GATEWAY_PORT\?/);
});
