// The built program as a shell sees it: exit codes, one clear sentence for what went wrong, nothing else on stdout.
import { spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const program = `${root}bin/oserve.js`;

function run(argv: readonly string[], environment: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, {
    cwd: root,
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, ...environment },
  });
  return { status, stdout, stderr };
}

test('help and version go to stdout and exit with 0', () => {
  const version = run([program, '--version']);
  expect(version).toMatchObject({ status: 0, stderr: '' });
  expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  expect(run([program, '--help']).stdout).toMatch(/^Usage: oserve/);
});

test('a wrong configuration is one sentence and a hint, exit code 1', () => {
  const { status, stdout, stderr } = run([program, 'config', 'print'], { OSERVE_GATEWAY_PORT: 'eighty' });
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  expect(stderr).toBe(
    'error: OSERVE_GATEWAY_PORT: gateway.port: expected number, got "eighty".\n' +
      'hint: See docs/reference/config.md, or run `oserve config schema`.\n',
  );
});

test('an unknown command suggests the nearest one, exit code not 0', () => {
  const { status, stdout, stderr } = run([program, 'simulat']);
  expect(status).not.toBe(0);
  expect(stdout).toBe('');
  expect(stderr).toMatch(/unknown command 'simulat'\n\(Did you mean simulate\?\)/);
});

test('with --json there is one JSON document and nothing else on stdout', () => {
  const { status, stdout } = run([program, 'config', 'print', '--json']);
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ config: { gateway: { port: 8080 } } });
});

test('an old Node is told which one is needed', () => {
  const pretend = `
    const versions = { ...process.versions, node: '18.20.4' };
    Object.defineProperty(process, 'versions', { value: versions });
    await import(${JSON.stringify(program)});`;
  const { status, stderr } = run(['--input-type=module', '-e', pretend]);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^oserve needs Node 20\.19 or newer; this is Node 18\.20\.4\./);
});

test('a reader that goes away ends the program quietly', () => {
  // `sh` gives the writer's exit code through a file descriptor of its own; stderr must stay empty.
  const script = `{ "${process.execPath}" "${program}" config schema; echo "exit $?" >&3; } 3>&2 | head -c 1 >/dev/null`;
  const { stderr } = spawnSync('sh', ['-c', script], { cwd: root, encoding: 'utf8', timeout: 60_000 });
  expect(stderr).toBe('exit 0\n');
});

test('a taken port is one sentence, and nothing is left running', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  try {
    const { status, stderr } = run([program, 'up', '--port', String(port), '--traffic', 'none']);
    expect(status).toBe(1);
    expect(stderr).toMatch(new RegExp(`error: .*${port}.*\\n`));
    expect(stderr).not.toMatch(/\n\s+at /);
  } finally {
    server.close();
  }
});
